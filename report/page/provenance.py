"""How to reproduce the run, and where it was made: what another person needs to make this page again, or to doubt it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from statistics import median
from typing import Any, Final

from ...traces.run import Manifest, Recording, Run
from . import text
from .blocks import Block, Cell, Command, Facts, Fold, Row, Section, Table, section
from .markup import clip
from .sides import Side


def selected(options: Sequence[str], *, judged: bool) -> tuple[str, str]:
    """What somebody chose by `options`, as words, and what that means for the rest; both empty where it is everything."""
    if not options:
        return "", ""
    claims = "; claims are judged by the whole of each variant" if judged else ""
    return clip(shlex.join(options), 600), f"figures and tables are of this selection{claims}"


def reproduce_section(run: Run | None, sides: Sequence[Side], version: str, options: Sequence[str] = ()) -> Section:
    """The commands that made the recordings, and the one that makes this page, with `options`."""
    given = [run.manifest.run_id] if run else [side.analysis.meta.file for side in sides]
    page = ["aisp-trace", "report", *given, *options]
    made = f"this page{f', by aisp-trace {version}' if version else ''}"
    commands = _commands(run.manifest) if run else []
    return section("reproduce", "How to reproduce it", [*commands, Command(made, shlex.join(page))])


def environment_section(run: Run | None, sides: Sequence[Side]) -> Section:
    """Recorders for a bare trace; for a run also machine, versions and commit."""
    content: list[Block] = [] if run is None else [Facts(_facts(run.manifest))]
    content.append(_recorders(run, sides))
    if run is not None:
        packages = [Row([name, version]) for name, version in sorted(run.manifest.packages.items())]
        if packages:
            content.append(Fold("Package versions", [Table("package versions", ["package", "version"], packages)]))
        if clocks := _clocks(run.manifest.hardware.clocks):
            content.append(Fold("Clocks", [clocks]))
    settings = [Row([s.name, k, clip(v, 600)]) for s in sides for k, v in s.analysis.meta.capture.items()]
    if settings:
        heads = ["variant", "setting", "value"]
        content.append(Fold("Settings the recorder noted", [Table("recorder settings", heads, settings)]))
    return section("environment", "Environment", content)


def _clocks(read: Mapping[str, Any]) -> Table | None:
    """What nvidia-smi said of each GPU, before the run and after it; null where it said nothing."""
    gpus = [
        (when, gpu) for when, some in read.items() if isinstance(some, list) for gpu in some if isinstance(gpu, dict)
    ]
    names = list(dict.fromkeys(name for _, gpu in gpus for name in gpu))
    if not names:
        return None
    rows = [Row([when, *(str(gpu.get(name, text.ABSENT)) for name in names)]) for when, gpu in gpus]
    return Table("clocks", ["when", *(name.replace("_", " ") for name in names)], rows)


def commit(git: object) -> str:
    """``1a2b3c4d5e6f (with uncommitted changes)``, or that it is unknown."""
    facts = git if isinstance(git, dict) else {}
    name = facts.get("commit")
    if not name:
        return "unknown"
    return f"{str(name)[:12]}{' (with uncommitted changes)' if facts.get('dirty') else ''}"


_TIMED_BY: Final = {"iterations": "their own iterations", "steps": "training steps"}


def _facts(m: Manifest) -> list[tuple[str, str | None]]:
    h = m.hardware
    timing = f"{text.count(len(m.rounds), 'round')}, {m.iterations or 0} iterations, {m.warmup or 0} warm-up"
    if m.timed is not None:  # a pair of the user's own commands
        by = _TIMED_BY.get(m.timed, "whole processes, start-up included")
        timing = f"{text.count(len({c.index for c in m.commands}), 'round')} of the commands, timed by {by}"
    return [
        ("run", m.run_id),
        ("created", m.created_utc),
        ("workload", f"{m.workload} ({m.source})"),
        ("profile", m.profile),
        ("recorder", m.recorder or "none: timings only"),
        ("hardware key", h.key),
        ("GPU", ", ".join(h.gpus) or "none"),
        ("driver", h.driver),
        ("CUDA", h.cuda),
        ("CPU", f"{h.cpu}, {h.cores} cores"),
        ("size, seed", f"{m.size or text.ABSENT}, {text.ABSENT if m.seed is None else m.seed}"),
        ("timing", timing),
        ("commit", commit(m.git)),
    ]


def _recorders(run: Run | None, sides: Sequence[Side]) -> Table:
    rows = []
    for side in sides:
        meta = side.analysis.meta
        slow = Cell(text.ABSENT) if run is None else _slowdown(run.manifest, side.name)
        file = PurePath(meta.file).name
        recorder = f"{meta.recorder} {meta.recorder_version}"
        rows.append(Row([side.name, clip(file), recorder, meta.export_schema or text.ABSENT, slow]))
    heads = ["variant", "trace", "recorder", "export schema", "traced / untraced"]
    return Table("recordings", heads, rows, numbers=(4,))


def _slowdown(manifest: Manifest, name: str) -> Cell:
    """Median traced iteration over median untraced iteration; tracing that slows much distorts shares of time."""
    recording = next((v.recording for v in manifest.variants if v.name == name), None)
    traced = _iterations(recording, name, manifest.timed)
    untraced = [ns for times in manifest.untraced_times_ns(name) for ns in times]
    if not traced or not untraced:
        return Cell(text.ABSENT)
    ratio = median(traced) / median(untraced)
    return Cell(f"{text.significant(ratio)} ×", ratio)


def _iterations(recording: Recording | None, name: str, timed: str | None) -> list[int]:
    if recording is not None and recording.answer is not None:
        return list(recording.answer.times_ns(timed))
    if recording is None or recording.result is None:
        return []
    return [ns for v in recording.result.variants if v.name == name for ns in v.iterations_ns]


def _commands(m: Manifest) -> list[Block]:
    out = [Command("capture", shlex.join(m.command_line))]
    for variant in m.variants:
        if variant.recording is not None:
            several = f" (first of {len(variant.recordings)})" if variant.again else ""
            out.append(Command(f"recording of {variant.name}{several}", shlex.join(variant.recording.command)))
    for one in m.commands:
        if one.index == 0:
            out.append(Command(f"first untraced process of {one.variant}", shlex.join(one.command)))
    if m.rounds:
        out.append(Command("first untraced round", shlex.join(m.rounds[0].command)))
    return [out[0], Fold("Commands of the recordings and rounds", out[1:])] if len(out) > 1 else [*out]
