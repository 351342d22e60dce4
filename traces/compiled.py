"""How this project compiles: numba makes machine code once, which later processes load without numba.

Importing numba and having it find its cached code takes half a second, as long as reading a million rows. So the code of a
module is kept as one object file, which llvmlite (numba's own binding to LLVM) links into the process in some milliseconds:

    <folder>/<module>.<key>.code        one line of JSON, then the object

`folder` is ``__pycache__`` beside the module or, where that cannot be written, the user's cache folder; where neither can,
every process compiles. The key is of all that the code depends on: the sources, the versions of numba and llvmlite, and the
processor. A file that is damaged, or that somebody else could have written, is not used.

What is compiled so takes integers and contiguous arrays, returns an integer or nothing, and allocates nothing (numba refuses
to compile what does). It calls nothing outside of itself, which is checked when it is compiled. A call checks the arrays'
types and releases the interpreter's lock. Should a version of numba lay out functions otherwise, its own dispatch is
used, which gives the same answers.

    UNIT = Unit(__name__, __file__)

    @UNIT.primitive(INT64, (array("int64"), INT64))
    def above(values, limit): ...

    UNIT.load()
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.metadata
import json
import os
import stat
import tempfile
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from .documents import CODE_HEAD, parse
from .errors import InputError

OFF: Final = "AISP_TRACE_NO_NUMBA"
"""Environment variable that switches compiled code off."""

INT64: Final = "int64"
"""The type of an argument or an answer that is an integer."""

NOTHING: Final = None
"""The type of no answer."""

_meanwhile = threading.local()

_engines: list[Any] = []
"""What holds the machine code; never freed, for functions point into it."""


@dataclass(frozen=True, slots=True)
class Array:
    """The type of a C-contiguous array argument."""

    dtype: str
    dimensions: int = 1
    writable: bool = False


def array(dtype: str, dimensions: int = 1, *, writable: bool = False) -> Array:
    """The type of a C-contiguous array argument of numpy's type `dtype`; read-only ones are taken unless `writable`."""
    return Array(dtype, dimensions, writable)


Signature = tuple[Any, ...]


class Primitive:
    """A function that runs compiled, for one of several signatures; callable once its unit is loaded.

    Raises `TypeError` for arguments of other types. `plain` is the function as it is written.
    """

    def __init__(self, plain: Callable[..., Any], answer: str | None, signatures: Sequence[Signature]) -> None:
        self.plain = plain
        self.answer = answer
        self.signatures = signatures
        self.calls: dict[tuple[str, ...], Callable[..., Any]] = {}
        self.__doc__ = plain.__doc__

    def __call__(self, *arguments: Any) -> Any:
        key = tuple([a.dtype.str for a in arguments if isinstance(a, np.ndarray)])
        call = self.calls.get(key)
        if call is None:
            raise TypeError(f"{self.plain.__name__} is compiled for arrays of other types than {', '.join(key)}")
        return call(*arguments)

    def bind(self, call: Callable[..., Any], signature: Signature) -> None:
        self.calls[tuple(np.dtype(a.dtype).str for a in signature if isinstance(a, Array))] = call


class Unit:
    """The primitives of one module, which are compiled and kept together."""

    def __init__(self, module: str, file: str) -> None:
        self.module = module
        self.file = Path(file)
        self.primitives: list[Primitive] = []
        self.helpers: dict[str, str] = {}

    def helper(self, function: Any = None, *, inline: str = "never") -> Any:
        """A function that only this unit's primitives and later helpers call."""
        if function is None:
            return lambda f: self.helper(f, inline=inline)
        self.helpers[function.__name__] = inline
        return function

    def primitive(self, answer: str | None, *signatures: Signature) -> Callable[[Callable[..., Any]], Primitive]:
        """Compile for each of `signatures`, which differ in types of arrays, when the unit is loaded."""

        def wrap(function: Callable[..., Any]) -> Primitive:
            made = Primitive(function, answer, signatures)
            self.primitives.append(made)
            return made

        return wrap

    def load(self) -> None:
        """Make the primitives callable: from kept code, or by compiling it. Raises `ImportError` without numba, or if
        compiled code is switched off."""
        if os.environ.get(OFF):
            raise ImportError(f"{OFF} is set")
        name = f"{self.file.stem}.{self._key()}.code"
        code = next((c for folder in _folders(self.file) if (c := _kept(folder / name)) is not None), None)
        if code is None:
            if getattr(_meanwhile, "only_kept", False):
                raise ImportError(f"no code of {self.module} is kept")
            try:
                code = self._compile()
            except _UnlikeExpected:
                return self._dispatch()
            _keep(self.file, name, code)
        symbols, content = code
        engine = _link(content)
        for place, (primitive, signature) in enumerate(self._each()):
            address = engine.get_function_address(symbols[place])
            if not address:
                return self._dispatch()
            primitive.bind(_caller(primitive, signature, address), signature)
        return None

    def _each(self) -> list[tuple[Primitive, Signature]]:
        return [(primitive, signature) for primitive in self.primitives for signature in primitive.signatures]

    def _key(self) -> str:
        import llvmlite.binding as llvm  # raises ImportError where numba is absent

        try:
            versions = [importlib.metadata.version(name) for name in ("numba", "llvmlite")]
        except importlib.metadata.PackageNotFoundError as error:
            raise ImportError("numba is not installed") from error
        processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
        sources = [self.file.read_bytes(), Path(__file__).read_bytes()]
        parts = [*sources, *(text.encode() for text in (*versions, llvm.get_process_triple(), processor))]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    def _compile(self) -> Code:
        """(symbols of each primitive and signature, the object that holds them)."""
        import llvmlite.binding as llvm

        whole = llvm.parse_assembly("")
        symbols = []
        for dispatcher, answer, signature in self._dispatchers(
            _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
        ):
            try:
                (made,) = dispatcher.overloads.values()
                name = made.fndesc.llvm_func_name
                module = llvm.parse_assembly(made.library.get_llvm_str())
                _check(module, name, answer, signature)
            except (
                AttributeError,
                ValueError,
                RuntimeError,
            ) as error:  # another numba than those this was written with
                raise _UnlikeExpected(str(error)) from error
            symbols.append(name)
            whole.link_in(module)
        return symbols, bytes(_machine(llvm).emit_object(whole))

    def _dispatch(self) -> None:
        """Let numba call its own code."""
        for (primitive, signature), (dispatcher, _, _) in zip(self._each(), self._dispatchers(), strict=True):
            primitive.bind(dispatcher, signature)

    def _dispatchers(self, **options: Any) -> list[tuple[Any, str | None, Signature]]:
        import numba

        made = []
        for primitive, signature in self._each():
            known = dict(primitive.plain.__globals__)
            for name, inline in self.helpers.items():
                known[name] = numba.njit(inline=inline, error_model="numpy")(_within(known[name], known))
            wanted = _numba_type(primitive.answer)(*map(_numba_type, signature))
            compile_ = numba.njit([wanted], nogil=True, error_model="numpy", **options)
            made.append((compile_(_within(primitive.plain, known)), primitive.answer, signature))
        return made


Code = tuple[list[str], bytes]


class Loader:
    """A module of primitives that is imported when it is first asked for."""

    def __init__(self, name: str, package: str | None) -> None:
        self.name, self.package = name, package
        self._lock = threading.Lock()
        self._found: list[ModuleType | None] = []
        self._kept = True

    def get(self, *, compiling: bool = True) -> ModuleType | None:
        """The module; null without numba or, unless `compiling`, where it has not been compiled before. Compiling takes
        seconds, loading what is kept some milliseconds."""
        with self._lock:
            if not self._found and (compiling or self._kept):
                made = self._import(only_kept=not compiling)
                if made is not None or compiling:
                    self._found.append(made)
                self._kept = made is not None
            return self._found[0] if self._found else None

    def _import(self, *, only_kept: bool) -> ModuleType | None:
        _meanwhile.only_kept = only_kept
        try:
            return importlib.import_module(self.name, self.package)
        except ImportError:
            return None  # numba is optional
        finally:
            _meanwhile.only_kept = False


class _UnlikeExpected(Exception):
    """Compiled code that is not laid out, or not as self-contained, as it has to be to be called without numba."""


def _within(function: Any, known: dict[str, Any]) -> Any:
    """`function` with other globals."""
    return types.FunctionType(function.__code__, known, function.__name__)


def _numba_type(one: Any) -> Any:
    from numba import types as t

    if isinstance(one, Array):
        dtype = t.boolean if one.dtype == "bool" else getattr(t, one.dtype)
        return t.Array(dtype, one.dimensions, "C", readonly=not one.writable)
    return t.none if one is NOTHING else getattr(t, one)


def _check(module: Any, name: str, answer: str | None, signature: Signature) -> None:
    """Raise `_UnlikeExpected` if function `name` of `module` is not laid out as `_caller` calls it, or calls others."""
    expected = f"i32 ({', '.join(['ptr', 'ptr', *map(_shape, signature)])})"
    found = str(module.get_function(name).global_value_type)
    foreign = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    if found != expected or foreign:
        raise _UnlikeExpected(f"{name}: {found} instead of {expected}; calls {', '.join(foreign) or 'nothing'}")


def _shape(one: Any) -> str:
    """What an argument of type `one` is to LLVM."""
    return f"ptr, ptr, i64, i64, ptr{', i64' * (2 * one.dimensions)}" if isinstance(one, Array) else "i64"


def _machine(llvm: Any) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )


def _link(content: bytes) -> Any:
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(llvm))
    engine.add_object_file(llvm.ObjectFileRef.from_data(content))
    engine.finalize_object()
    _engines.append(engine)
    return engine


def _caller(primitive: Primitive, signature: Signature, address: int) -> Callable[..., Any]:
    """A Python function that checks its arguments and calls the code at `address`.

    numba's functions take where to put the answer, where to put what went wrong, and each array as owner, parent, number of
    items, bytes of one, data, shape and strides.
    """
    kinds: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
    for one in signature:
        whole = [ctypes.c_int64] * (2 * one.dimensions) if isinstance(one, Array) else []
        lead = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
        kinds += [*lead, *whole] if isinstance(one, Array) else [ctypes.c_int64]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(address)
    name = primitive.plain.__name__
    wanted = [(np.dtype(s.dtype), s.dimensions, s.writable) if isinstance(s, Array) else None for s in signature]

    def call(*arguments: Any) -> Any:
        flat: list[Any] = []
        for value, want in zip(arguments, wanted, strict=True):
            if want is None:
                flat.append(int(value))
                continue
            if not isinstance(value, np.ndarray):
                raise TypeError(f"{name} takes an array of {want[0]}, not {type(value).__name__}")
            flags = value.flags
            if value.dtype != want[0] or value.ndim != want[1] or not flags.c_contiguous or want[2] > flags.writeable:
                raise TypeError(f"{name} takes a contiguous{' writable' * want[2]} array of {want[0]}, {want[1]}-d")
            flat += (None, None, value.size, value.itemsize, value.__array_interface__["data"][0])
            flat += (*value.shape, *value.strides)
        answer, wrong = ctypes.c_int64(0), ctypes.c_void_p(None)
        status = function(ctypes.addressof(answer), ctypes.addressof(wrong), *flat)
        if status not in _FINE:
            raise RuntimeError(f"{name} ended with status {status}")
        return None if primitive.answer is NOTHING else answer.value

    return call


_FINE: Final = (0, -2)
"""numba's statuses of a function that returned: with a value, and with none."""


def _folders(file: Path) -> list[Path]:
    """Where code of the module `file` may be kept, best first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~", ".cache").expanduser())
    return [file.parent / "__pycache__", cache / "aisp-trace"]


def _kept(path: Path) -> Code | None:
    """The code in `path`; null if there is none that may be used."""
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            foreign = hasattr(os, "geteuid") and status.st_uid not in (0, os.geteuid())
            if foreign or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            head = parse(stream.readline(CODE_HEAD.most_bytes), CODE_HEAD, str(path))
            content = stream.read()
        if head["sha256"] != hashlib.sha256(content).hexdigest():
            return None
        return list(map(str, head["symbols"])), content
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def _keep(file: Path, name: str, code: Code) -> None:
    """Write `code` into the first folder that takes it, whole or not at all."""
    symbols, content = code
    head = json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "symbols": symbols}).encode()
    for folder in _folders(file):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, made = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        except OSError:
            continue
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(head + b"\n" + content)
            Path(made).chmod(0o644)
            Path(made).replace(folder / name)
            return
        except OSError:
            Path(made).unlink(missing_ok=True)
