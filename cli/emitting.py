"""The way of `kernels emit`: a task and its settings become a file and a Makefile, which are written and compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..kernels import build, emit, nvrtc, space, tasks
from ..kernels.artifacts import store_emitted
from ..kernels.task import Settings, Task
from ..report.terminal.console import aside, say, say_wrapped
from ..traces.errors import InputError, UsageError
from ..traces.faults import nearest
from ..traces.output import Kind, Output, check_all, check_container
from ..traces.version import version

SOURCE = Kind("kernel that aisp-trace emitted and nobody edited", known=emit.is_untouched_source)
MAKEFILE = Kind("Makefile that aisp-trace emitted", known=emit.is_makefile)


@dataclass(frozen=True, slots=True)
class Asked:
    """What to emit, checked: `capability` is that of `arch`."""

    task: Task
    settings: Settings
    arch: str
    capability: tuple[int, int]


def asked(task_name: str, arch: str, words: Iterable[str]) -> Asked:
    """The task, and its defaults changed by `words` (``NAME=VALUE``); raises `UsageError` for what does not exist."""
    task = task_called(task_name)
    try:
        capability = build.capability_of(arch)
    except ValueError as exc:
        raise UsageError(f"--arch {exc}") from None
    return Asked(task, settings(task, words), arch, capability)


def only_for_a_model(generator: str, words: Mapping[str, object], output: Path | None) -> None:
    """Raise `UsageError` for a generator that does not exist, words that a template has no use for, or no place to write."""
    if generator != "template":
        raise UsageError(f"no generator is called {generator!r}; generators are template and llm")
    if given := [name for name, value in words.items() if value]:
        raise UsageError(f"{given[0]} is for --generator llm; a template needs none")
    if output is None:
        raise UsageError("name the file to write with -o")


def task_called(name: str) -> Task:
    """The task; raises `UsageError` naming the nearest."""
    try:
        return tasks.find(name)
    except KeyError:
        hint = nearest(name, tasks.NAMES) or f"; tasks are {', '.join(tasks.NAMES)}"
        raise UsageError(f"no kernel task is called {name!r}{hint}") from None


def settings(task: Task, words: Iterable[str]) -> Settings:
    """A value for each parameter of `task`; raises `UsageError` for a word that names none, or values that do not fit."""
    known = {parameter.name: parameter for parameter in task.parameters}
    chosen = space.defaults(task)
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word} has no value; write it as NAME=VALUE")
        if name not in known:
            hint = nearest(name, known) or f"; parameters are {', '.join(known)}"
            raise UsageError(f"no parameter of {task.name} is called {name!r}{hint}")
        value = space.value(known[name], text)
        if value is None:
            values = ", ".join(map(str, known[name].values))
            raise UsageError(f"{name} of {task.name} cannot be {text!r}; its values are {values}")
        chosen[name] = value
    if (why := space.objection(task, chosen)) is not None:
        raise UsageError(f"these values of {task.name} do not go together: {why}")
    return chosen


def emit_files(what: Asked, path: Path, force: bool, compiling: bool, artifacts: Path) -> None:
    """Write the source to `path` and the Makefile beside it, compile if asked to, and say what was done."""
    target, *beside = outputs = outputs_of(path, force)
    text = emit.source(what.task, what.settings, what.arch, version())
    written = [(target, text), *((output, emit.makefile(what.arch)) for output in beside)]
    check_all(outputs)
    if compiling and not target.is_stream:
        check_container(artifacts, "--artifacts")
    for output, content in written:
        output.write_text(content)
    with aside(target):
        for output, _ in written:
            say(str(output.path))
        if target.is_stream and compiling:
            say_wrapped("Nothing was compiled, since the source went to no file.")
        elif compiling:
            say_wrapped(compiled(path, text, what))
            if (kept := _kept(path, what, artifacts)) is not None:
                say(f"artefacts: {kept}")


def outputs_of(path: Path, force: bool) -> list[Output]:
    """The source at `path` and, unless that is a stream, the Makefile beside it; not checked yet."""
    target = Output(path, SOURCE, force=force, option="-o")
    if not target.to_stdout and not target.is_stream and path.suffix != ".cu":
        raise UsageError(f"{path} does not end with .cu, by which nvcc knows CUDA; choose another name with -o")
    if target.is_stream:
        return [target]
    return [target, Output(path.parent / "Makefile", MAKEFILE, force=force, option="-o FOLDER/NAME.cu")]


def compiled(path: Path, text: str, what: Asked) -> str:
    """Compile, and say by what and how far; raises `InputError` with the first error."""
    try:
        nvcc = build.find_nvcc()
    except build.NoCompilerError:
        return _device_compiled(path, text, what.arch)
    try:
        library = build.build(path, what.capability, nvcc)
        return f"Compiled for {what.arch} by nvcc {build.version(nvcc)}: {library}"
    except build.CompileError as exc:
        raise InputError(f"{path} does not compile for {what.arch}: {exc.first}") from exc
    except build.KernelError as exc:
        raise InputError(str(exc)) from exc


def _kept(path: Path, what: Asked, artifacts: Path) -> Path | None:
    """Where source, parameters and nvcc's log are kept; null without nvcc."""
    try:
        nvcc = build.find_nvcc()
    except build.NoCompilerError:
        return None
    log = build.log(path, what.capability, nvcc)
    return store_emitted(artifacts, what.task.name, path, what.arch, f"nvcc {build.version(nvcc)}", log)


def _device_compiled(path: Path, text: str, arch: str) -> str:
    try:
        made = nvrtc.compile_device(text, arch)
    except build.NoCompilerError:
        return (
            "Nothing was compiled: there is no nvcc here, and no NVRTC for the device part alone; for that, "
            f"install {nvrtc.PACKAGES} (the extra `kernels`)."
        )
    except build.CompileError as exc:
        raise InputError(f"the device part of {path} does not compile for {arch}: {exc.first}") from exc
    return f"The device part was compiled for {arch} by NVRTC {made.release}. The launcher and main were not: that takes nvcc."
