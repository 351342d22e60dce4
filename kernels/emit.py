"""A task and the values of its parameters become one CUDA source file, and the Makefile beside it.

Text in, text out: the same task, settings, architecture and version give the same bytes. The templates lie in ``templates/``:
``file.cu.j2`` is the whole file, ``NAME.cu.j2`` the kernels of a task, ``device.cu.j2`` and ``launch.cu.j2`` what several share,
``check.cu.j2`` the program; ``generated.cu.j2`` is the whole file around kernels that a model wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jinja2

from .task import DTYPES, Operand, Settings, Task

INTERFACE: Final = 1
"""The version of the C interface, as ``aisp_describe`` says it."""

TEMPLATES: Final = Path(__file__).resolve().parent / "templates"

CHECKED_BYTES: Final = 1 << 22
"""The program checks the shapes that move no more in float32: a second on a processor, and every branch of the kernel."""

C_TYPES: Final = {"element": "T", "float32": "float", "int32": "int", "int8": "signed char"}
TYPE_CODES: Final = {"element": "kElement", "float32": "kFloat32", "int32": "kInt32", "int8": "kInt8"}

DIVIDER: Final = "// ---- Launching ----"
"""Stands between kernels and launcher in what a model writes."""

MARK: Final = "// Made by `aisp-trace kernels emit"
_SUM: Final = re.compile(r"(?m)^// Sum: ([0-9a-f]*)\n")
_MAKEFILE: Final = "# For the files of this folder that `aisp-trace kernels emit` made.\n"


@dataclass(frozen=True, slots=True)
class Part:
    """What a model may write of a file: kernels, and the launcher with what it uses. `model` is who wrote it."""

    device: str
    host: str
    model: str = ""
    headers: Sequence[str] = ()
    """Included before everything else, since kernels and launcher stand in a namespace."""

    @property
    def text(self) -> str:
        """As a model is shown it and answers it."""
        return f"{self.device}\n\n{DIVIDER}\n\n{self.host}\n"


def source(task: Task, settings: Settings, arch: str, version: str) -> str:
    """The file for `settings`, a value for each parameter; `arch` (``sm_90``) and `version` stand in its header."""
    return _source(f"{task.name}.cu.j2", task, settings, arch, version, how="")


def generated(task: Task, settings: Settings, arch: str, version: str, part: Part) -> str:
    """The same file with kernels and launcher of a model; `settings` are those of the template that it began with."""
    return _source("generated.cu.j2", task, settings, arch, version, how=" --generator llm", part=part)


def part_of(task: Task, settings: Settings) -> Part:
    """What the template writes where a model may write."""
    text = _source("part.cu.j2", task, settings, "sm_90", "", how="")
    device, host, start = (found.strip("\n") for found in re.findall(r"(?s)@@\w+\n(.*?)\n@@", text))
    return Part(device, f"{host}\n\n{signature(task)} {{\n{start}\n}}".strip("\n"))


def signature(task: Task) -> str:
    """How the launcher that a model writes is declared."""
    tensors = [f"const {_c_type(o)}* {o.name}" for o in task.inputs] + [f"{_c_type(o)}* {o.name}" for o in task.outputs]
    sizes = [f"long long {name}" for name in task.sizes]
    return f"template <typename T> int launch_task({', '.join([*tensors, *sizes, 'cudaStream_t stream'])})"


def _source(template: str, task: Task, settings: Settings, arch: str, version: str, **more: Any) -> str:
    facts = {"task": task.name, "parameters": dict(settings), "dtypes": list(DTYPES), "interface": INTERFACE}
    text = (
        _environment()
        .get_template(template)
        .render(
            task=task,
            settings=settings,
            arch=arch,
            version=version,
            sum="0",
            description=_c_string(json.dumps(facts)),
            checks=[shape for shape in task.shapes if task.bytes(shape, "float32") <= CHECKED_BYTES],
            tolerances=[task.tolerances[dtype] for dtype in DTYPES],
            ctype=_c_type,
            typecode=_type_code,
            **more,
        )
    )
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text))
    return _SUM.sub(lambda _: f"// Sum: {_sum(text)}\n", text, count=1)


def constant(parameter: str) -> str:
    """What a parameter's value is called in the source: ``kVectorBytes``."""
    return "k" + "".join(word.capitalize() for word in parameter.split("_"))


def makefile(arch: str) -> str:
    """The Makefile for all emitted files of a folder, with `arch` as the default."""
    return _environment().get_template("Makefile.j2").render(arch=arch)


def is_untouched_source(content: bytes) -> bool:
    """Whether `content` begins as an emitted file and nobody has edited it since; it has to be whole."""
    text = content.decode(errors="replace")
    found = _SUM.search(text)
    return text.startswith("// ") and MARK in text[:500] and found is not None and found[1] == _sum(text)


def is_makefile(content: bytes) -> bool:
    """Whether `content` is a Makefile of ours; an edited one is too, as long as its first line stands."""
    return content.startswith(_MAKEFILE.encode())


def _sum(text: str) -> str:
    """A digest of all that follows the line of the sum."""
    return hashlib.sha256(text[_SUM.search(text).end() :].encode()).hexdigest()[:20]  # type: ignore[union-attr]


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _c_string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _c_type(operand: Operand) -> str:
    return C_TYPES[operand.dtype]


def _type_code(operand: Operand) -> str:
    return TYPE_CODES[operand.dtype]
