"""Sources that a model wrote: what they may include, how they are compiled, and what of the compiler's messages is shown.

    objection(source)       directives and headers from a list, nothing else
    sealed(content, name)   compiles in a folder of its own: clean environment, limits on time, memory and files
    own_messages(...)       messages about the source itself; of any other file not one word

A compiler prints the lines it stumbles over, of any file it reads: ``#include "/etc/passwd"`` prints that
file's first line, and ``asm(".include ...")`` more of it. So headers are checked before anything is compiled, and a message
is kept only if it is about the source. The line shown below it is taken from the source, not from the compiler. This is no
sandbox.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..capture.processes import run_process
from ..traces.errors import UsageError
from .build import CompileError, Compiler, KernelError, NoCompilerError, completed
from .nvrtc import PACKAGES

MARK: Final = b"--generator llm`"
"""Stands in the head of each source that a model wrote."""

HEADERS: Final = frozenset(
    {
        *("cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h", "cuda_fp8.h", "cuda_pipeline.h", "mma.h", "vector_types.h"),
        *("cooperative_groups.h", "cooperative_groups/reduce.h", "cooperative_groups/scan.h"),
        *("cooperative_groups/memcpy_async.h", "cuda/barrier", "cuda/pipeline", "cuda/std/cstdint", "cuda/std/limits"),
        *("cuda/std/type_traits", "cuda/std/utility", "cuda/std/array", "algorithm", "array", "cfloat", "climits"),
        *("cmath", "cstddef", "cstdint", "cstdio", "cstdlib", "cstring", "limits", "type_traits", "utility", "vector"),
    }
)
"""What may be included: CUDA's own headers, and those of C++ that the frame of an emitted file has or that compute."""

DIRECTIVES: Final = ("define", "undef", "if", "ifdef", "ifndef", "elif", "else", "endif", "error", "warning")
"""Beside ``include`` and ``pragma``. ``line`` would let messages name, and a compiler print, another file."""

PRAGMAS: Final = re.compile(r"(?:unroll|nounroll|once|nv_diag_(?:suppress|default|push|pop)|nv_diagnostic)\b[^\"]*")

COMPILE_S: Final = 120.0
COMPILE_LIMITS: Final = {"RLIMIT_CPU": 120, "RLIMIT_AS": 8 << 30, "RLIMIT_FSIZE": 256 << 20, "RLIMIT_CORE": 0}
"""A task's kernels take seconds and 300 MB. Messages are files, too: templates without end stop at the limit of files."""

MESSAGES: Final = 30
"""Shown of one compilation. The first few say it all."""

LOGGED: Final = 1000
"""The same of one that succeeded, which lists each kernel's registers."""

OUTPUT: Final = "compiler.out"
SILENT: Final = "error: the compiler failed without a message about the source"

MESSAGE: Final = 400
"""Characters of one."""

_DIRECTIVE: Final = re.compile(r"^(?:.*\*/)?\s*#(?:\s|/\*.*?\*/)*(\w*)(.*)$", re.DOTALL)
_COMMENT: Final = r"\s*(?://.*|/\*.*\*/\s*)?"
_INCLUDE: Final = re.compile(rf"\s*(?:<([\w./]+)>|\"([\w./]+)\"){_COMMENT}")
_FORBIDDEN: Final = (
    ("%:", "writes # as %:"),
    ("??=", "has a trigraph"),
    ("??/", "has a trigraph"),
    ("##", "pastes tokens together"),
    ("__has_include", "asks which files there are"),
    ("__has_embed", "asks which files there are"),
    ("_Pragma", "has a _Pragma; write #pragma unroll"),
    (".incbin", "reads a file in assembler"),
    (".include", "reads a file in assembler"),
)

_HEADS: Final = (
    re.compile(
        r"(?P<file>.+?)\((?P<line>\d+)\): (?P<what>(?:catastrophic |internal )?(?:error|warning|note|remark)\b.*)"
    ),
    re.compile(
        r"(?P<file>[^:]+):(?P<line>\d+):(?:\d+:)?\s*(?P<what>(?:fatal )?(?:error|warning|note|Error|Warning)\b.*)"
    ),
)
_FILE: Final = re.compile(r"(?P<file>[^:]+):(?P<line>\d+|) ?(?:Assembler messages:|In function .*)")
_ASSEMBLER: Final = re.compile(
    r"(ptxas)(?: [^,]+, line \d+;)? ((?:error|fatal|warning|info)\s*:.*)|()(\d+ bytes stack frame, .*)"
)
_DRIVER: Final = re.compile(r"(nvcc) ((?:error|fatal|warning)\s*:.*)")
_LINKER: Final = re.compile(r".*\b(undefined reference to .*|multiple definition of [^;]*).*")
_MORE: Final = re.compile(r"\s+((?:argument|object) types? (?:are|is): .*)")
_ROOTS: Final = ("/usr/include/", "/usr/lib/gcc/", "/usr/local/cuda", "/usr/lib/x86_64-linux-gnu/", "/usr/lib/cuda")

_LIMITED: Final = """
import os, resource, sys
for name, most in {limits!r}.items():
    resource.setrlimit(getattr(resource, name), (most, most))
os.execv(sys.argv[1], sys.argv[1:])
"""


def is_generated(content: bytes) -> bool:
    """Whether a source says in its head that a model wrote it."""
    return MARK in content[:1000]


def refuse_untrusted(source: Path, allowed: bool) -> None:
    """Raise `UsageError` for a source that a model wrote, unless it is `allowed` to run."""
    if not allowed and is_generated(source.read_bytes()):
        raise UsageError(
            f"{source} was written by a model, and would run with this user's rights; read it, then say --run-untrusted "
            "(docs/kernels.md says what that means)"
        )


# -- before anything is compiled ---------------------------------------------------------------------------------------


def objection(source: str) -> str | None:
    """Why `source` may not be given to a compiler; null: it may.

    Errs to refusing: what looks like a directive is one, in a comment or a string too.
    """
    for text, what in _FORBIDDEN:
        if text in source:
            return f"it {what}"
    if "\r" in source or "\0" in source:
        return "it has carriage returns or null characters"
    spliced = re.sub(r"\\[ \t\v\f]*\n", "", source)
    if any(text in spliced for text, _ in _FORBIDDEN):
        return "it hides a word behind a continued line"
    for line in spliced.split("\n"):
        found = _DIRECTIVE.match(line)
        if found is not None and (why := _directive(found[1], found[2])):
            return f"{why}: {line.strip()[:120]}"
    return None


def _directive(word: str, rest: str) -> str:
    """What is wrong with one; empty: nothing."""
    if word in DIRECTIVES:
        return ""
    if word == "pragma":
        return "" if PRAGMAS.fullmatch(rest.strip()) else "only #pragma unroll is allowed"
    if word != "include":
        return f"the directive #{word} is not allowed"
    named = _INCLUDE.fullmatch(rest)
    header = named and (named[1] or named[2])
    return "" if header in HEADERS else "this header is not allowed"


# -- compiling ---------------------------------------------------------------------------------------------------------


class Box:
    """A folder with one source, and a `Compiler` (build.py) whose commands run there; made by `sealed`."""

    def __init__(self, folder: Path, content: bytes, name: str, timeout_s: float) -> None:
        self.folder, self.path, self._timeout_s = folder, folder / name, timeout_s
        self._source = content.decode(errors="replace")
        self.path.write_bytes(content)

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """`command` when it has ended well, its messages stripped; raises `KernelError` as `build.completed`."""
        if (why := objection(self._source)) is not None:
            raise CompileError(f"{self.path.name} was not compiled: {why}", f"error: {why}")
        words = [word.removeprefix(f"{self.folder}{os.sep}") for word in command]  # so that __FILE__ names no folder
        limited = [sys.executable, "-I", "-S", "-c", _LIMITED.format(limits=COMPILE_LIMITS), *words]
        out, err = self.folder / OUTPUT, self.folder / "compiler.err"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "TMPDIR": str(self.folder),
            "HOME": str(self.folder),
            "LC_ALL": "C",
        }
        done = run_process(
            limited, stdout=out, stderr=err, timeout_s=self._timeout_s, environment=environment, cwd=self.folder
        )
        if done.timed_out:
            raise KernelError(f"the compiler did not end within {self._timeout_s:g} s")
        known, printed = (str(self.folder), *_roots(words[0])), _text(err) + _text(out)
        if done.exit_code != 0:
            said = own_messages(printed, self._source, self.path.name, known) or SILENT
            raise CompileError(f"{self.path.name} does not compile: {said}", said)
        said = own_messages(printed, self._source, self.path.name, known, LOGGED)
        return subprocess.CompletedProcess(words, 0, "", said)


@contextmanager
def sealed(content: bytes, name: str = "source.cu", timeout_s: float = COMPILE_S) -> Iterator[Box]:
    """A folder of its own for compiling `content`, gone at the end; no command in it may take longer than `timeout_s`."""
    with tempfile.TemporaryDirectory(prefix="aisp-trace-sealed-") as folder:
        yield Box(Path(folder), content, name, min(timeout_s, COMPILE_S))


@contextmanager
def compiling(source: Path, timeout_s: float = COMPILE_S) -> Iterator[tuple[Path, Compiler]]:
    """The file to compile in `source`'s place, and what runs the compiler: sealed if a model wrote it, else as ever."""
    content = source.read_bytes()
    if not is_generated(content):
        yield source, completed
        return
    with sealed(content, source.name, timeout_s) as box:
        yield box.path, box


def device_compiled(content: bytes, arch: str, timeout_s: float = COMPILE_S) -> str:
    """NVRTC's release, when it has compiled the device part in a process of its own.

    Raises `CompileError` with stripped messages, `NoCompilerError` if there is no NVRTC.
    """
    paths = os.pathsep.join(str(Path(one).resolve()) for one in sys.path if one)
    boot = f"import sys; sys.path[:0] = {paths.split(os.pathsep)!r}; from aisp_trace.kernels.nvrtc import main; main()"
    with sealed(content, "kernel.cu", timeout_s) as box:
        box([sys.executable, "-I", "-c", boot, str(box.path), arch])
        release = _text(box.folder / OUTPUT).strip()
    if not release:
        raise NoCompilerError(f"NVRTC needs the packages {PACKAGES}")
    return release


def _text(file: Path) -> str:
    with file.open("rb") as stream:
        return stream.read(1 << 20).decode(errors="replace")


def _roots(compiler: str) -> tuple[str, ...]:
    """Where the compiler's own headers lie."""
    return (*_ROOTS, f"{Path(compiler).resolve().parents[1]}{os.sep}")


# -- messages ----------------------------------------------------------------------------------------------------------


def own_messages(said: str, source: str, name: str, known: Sequence[str] = _ROOTS, most: int = MESSAGES) -> str:
    """What a compiler said of the file `name` whose text is `source`: `most` messages, each with the line it is about.

    Files below `known` are the compiler's; what it says of them is left out. If it speaks of any other file, nothing is shown
    but that: then even messages about the source may quote what was read.
    """
    lines, found = source.splitlines(), list[str]()
    about_own = False
    for line in said.splitlines():
        head = next((head for pattern in _HEADS if (head := pattern.fullmatch(line))), None)
        if head is not None:
            about_own = head["file"] == name
            if about_own:
                number = int(head["line"])
                text = lines[number - 1].strip() if 0 < number <= len(lines) else ""
                found.append(
                    f"{name}({number}): {head['what']}"[:MESSAGE] + (f"\n    {text[:MESSAGE]}" if text else "")
                )
            elif not _is_known(head["file"], known):
                return f"error: the compiler read another file than {name}, so nothing that it said is shown"
        elif (other := _FILE.fullmatch(line)) is not None and other["file"] != name:
            if not _is_known(other["file"], known):
                return f"error: the compiler read another file than {name}, so nothing that it said is shown"
        elif about_own and (more := _MORE.fullmatch(line)):
            found[-1] += f"\n    {more[1][:MESSAGE]}"
        elif tool := _ASSEMBLER.fullmatch(line.strip()) or _DRIVER.fullmatch(line.strip()):
            words = [word for word in tool.groups() if word]
            found.append(" ".join(words)[:MESSAGE])
            about_own = False
        elif linked := _LINKER.fullmatch(line):
            found.append(f"error: {linked[1]}"[:MESSAGE])
            about_own = False
    shown = list(dict.fromkeys(found)) if most < LOGGED else found
    rest = [f"and {len(shown) - most} more messages"] if len(shown) > most else []
    text = "\n".join([*shown[:most], *rest])
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _is_known(file: str, known: Sequence[str]) -> bool:
    place = os.path.normpath(file)
    if not Path(place).is_absolute():  # the compilers' own pieces: they run in a folder that holds nothing else
        return not place.startswith("..")
    return any(place.startswith(root) for root in known)
