"""The way of `kernels emit --generator llm`: a session with a model, what it came to, and the file that is written."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..kernels import emit
from ..kernels.bench import gpu
from ..kernels.build import arch_of, capability_of
from ..kernels.llm.endpoint import Endpoint, from_environment
from ..kernels.llm.judging import Here
from ..kernels.llm.loop import Bounds, Loop, heard
from ..kernels.llm.prompt import Subject, messages
from ..kernels.llm.result import VERIFIED, WAITING, Attempt, Generated
from ..kernels.llm.session import Session, begin, find, result_digest
from ..kernels.verify.evidence import Asked as Verification
from ..kernels.verify.plan import shape_text
from ..report.terminal.console import aside, remark, say, say_wrapped
from ..report.terminal.kernel_generation import print_generated, print_prompt
from ..traces.documents import KERNEL, read
from ..traces.errors import UsageError
from ..traces.output import Output, check_all, check_container
from ..traces.version import version
from .emitting import Asked, outputs_of
from .verifying import verify_and_keep

VERIFY_S = 30.0
"""The least that a verification gets: what it has been given the time to begin, it may end."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What stands on the command line beside the template's own words. `results` are verifications made elsewhere."""

    output: Path | None
    dtype: str | None
    shapes: Sequence[str]
    bounds: Bounds
    results: Sequence[Path]
    run_untrusted: bool
    compiling: bool
    dry_run: bool
    force: bool
    artifacts: Path


def generate(what: Asked, wanted: Wanted) -> int:
    """Do what is asked for; the exit code. Raises `UsageError` or `InputError`."""
    from ..kernels.verify.parent import parse_shape

    task, dtype = what.task, what.task.dtype_of(wanted.dtype)
    shapes = [parse_shape(task, text) for text in wanted.shapes] or [dict(task.shapes[0])]
    subject = Subject(task, dtype, what.arch, shapes, what.settings)
    if wanted.dry_run:
        part = emit.part_of(task, what.settings).text
        print_prompt(messages(subject, Attempt(0, WAITING), part, None, ""))
        return 0
    if wanted.output is None:
        raise UsageError("name the file to write with -o, or see the first prompt with --dry-run")
    outputs = outputs_of(wanted.output, wanted.force)
    check_all(outputs)  # before anything is asked and paid for
    check_container(wanted.artifacts, "--artifacts")
    endpoint = from_environment()
    if wanted.run_untrusted:
        _check_gpu(what.arch)
    session = _session(what, wanted, subject, endpoint)
    judge = Here(session.arch, _verifier(session, subject, wanted) if wanted.run_untrusted else None, wanted.compiling)
    found = Loop(session, subject, endpoint, judge, wanted.bounds, remark).run()
    return _tell(found, session, outputs, wanted)


def _session(what: Asked, wanted: Wanted, subject: Subject, endpoint: Endpoint) -> Session:
    """A new session, or the one that the results belong to, which has heard them."""
    task, settings = what.task, what.settings
    texts = [shape_text(shape) for shape in subject.shapes]
    if not wanted.results:
        template = emit.source(task, settings, what.arch, version()).encode()
        session = Session(Path(), task.name, subject.dtype, what.arch, texts, dict(settings), endpoint.model)
        begin(wanted.artifacts, session, template)
        first = Attempt(0, WAITING)
        session.attempts.append(first)
        session.keep(first, template)
        session.save()
        return session
    documents = [read(file, KERNEL) for file in wanted.results]
    digests = [result_digest(document, task.name) for document in documents]
    session = find(wanted.artifacts, task.name, digests[-1])
    asked = (session.dtype, session.arch, session.shapes, session.settings)
    if asked != (subject.dtype, what.arch, texts, dict(settings)):
        raise UsageError(
            "the result is from a session with other options; repeat --dtype, --shape, --arch and --set as they were"
        )
    for document, sha256 in zip(documents, digests, strict=True):
        if session.of(sha256) is None:
            raise UsageError("the results come from several sessions; give those of one")
        heard(session, document, sha256)
    session.model = endpoint.model
    return session


def _check_gpu(arch: str) -> None:
    if not gpu.has_gpu():
        raise UsageError(
            "--run-untrusted runs candidates on a GPU, and torch sees none here; leave it out, and verify them where there is one"
        )
    import torch

    here = arch_of(torch.cuda.get_device_capability())
    if arch != here:
        raise UsageError(f"--arch {arch} cannot be measured here: this machine's GPU is {here}")


def _verifier(session: Session, subject: Subject, wanted: Wanted) -> Callable[[Path, float], Mapping[str, Any]]:
    from ..kernels.llm.stalls import stall_reasons

    def verified(file: Path, left_s: float) -> Mapping[str, Any]:
        asked = Verification(
            file, session.task, session.dtype, session.shapes, within_s=max(left_s, VERIFY_S), run_untrusted=True
        )
        began = time.monotonic()
        found = verify_and_keep(asked, wanted.artifacts)[0].document()
        left_s -= time.monotonic() - began
        if found["status"] != VERIFIED:
            return found
        capability = capability_of(session.arch)
        stalls = stall_reasons(file, subject.task, session.dtype, subject.shapes[0], capability, left_s)
        return {**found, "stalls": stalls}

    return verified


def _tell(found: Generated, session: Session, outputs: Sequence[Output], wanted: Wanted) -> int:
    """Write the best, or what waits, and say what is to be done with it."""
    chosen = found.waiting or found.best
    target, *beside = outputs
    if chosen is not None:
        target.write_text(session.source(chosen).decode())
        for output in beside:
            output.write_text(emit.makefile(session.arch))
    with aside(target):
        print_generated(found)
        say(f"session: {session.folder}")
        if chosen is not None and not target.is_stream:
            say(f"{'NOT VERIFIED' if chosen is found.waiting else 'written'}: {target.path}")
        if found.waiting is not None:
            say_wrapped("Read it, verify it where there is a GPU, bring the result back, and go on:")
            for line in _next(found, session, wanted):
                say(f"  {line}")
    return found.exit_code if found.waiting is None else 3


def _next(found: Generated, session: Session, wanted: Wanted) -> list[str]:
    """The commands of the other machine and then of this one."""
    same = [f"--dtype {found.dtype}", *(f"--shape {shape}" for shape in session.shapes)]
    name = shlex.quote(wanted.output.name if wanted.output else "FILE")
    there = ["aisp-trace kernels verify", name, f"--task {found.task}", *same, "--run-untrusted --json > result.json"]
    changed = [f"--set {word}={value}" for word, value in session.settings.items()]
    here = ["aisp-trace kernels emit", found.task, "--generator llm", *same, f"--arch {found.arch}", *changed]
    here += ["--result result.json", f"-o {shlex.quote(str(wanted.output))}"]
    return [" ".join(there), " ".join(here)]
