"""Provenance: everything another person needs to make this page again, or to doubt it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath
from statistics import median

from ...traces.run import Manifest, Recording, Run
from . import text
from .markup import Child, Html, clip, element
from .sides import Side
from .tables import definitions, folded, section, table


def provenance_section(run: Run | None, sides: Sequence[Side]) -> Html:
    """Recorders for a bare trace; for a run also machine, versions, commit and the exact commands."""
    content: list[Html] = []
    if run is not None:
        content.append(definitions(_facts(run.manifest)))
    content.append(_recorders(run, sides))
    if run is not None:
        content.extend(_commands(run.manifest))
        packages = [[name, version] for name, version in sorted(run.manifest.packages.items())]
        if packages:
            content.append(folded("Package versions", table("package versions", ["package", "version"], packages)))
        clocks = [[str(k), str(v)] for k, v in run.manifest.hardware.clocks.items()]
        if clocks:
            content.append(folded("Clocks", table("clocks", ["clock", "value"], clocks)))
    settings = [[s.name, k, clip(v, 600)] for s in sides for k, v in s.analysis.meta.capture.items()]
    if settings:
        heads = ["variant", "setting", "value"]
        content.append(folded("Settings the recorder noted", table("recorder settings", heads, settings)))
    return section("provenance", "Provenance", content)


def commit(git: object) -> str:
    """``1a2b3c4d5e6f (with uncommitted changes)``, or that it is unknown."""
    facts = git if isinstance(git, dict) else {}
    name = facts.get("commit")
    if not name:
        return "unknown"
    return f"{str(name)[:12]}{' (with uncommitted changes)' if facts.get('dirty') else ''}"


def _facts(m: Manifest) -> list[tuple[str, Child]]:
    h = m.hardware
    timing = f"{text.count(len(m.rounds), 'round')}, {m.iterations or 0} iterations, {m.warmup or 0} warm-up"
    if m.timed is not None:  # a pair of the user's own commands
        by = "their own iterations" if m.timed == "iterations" else "whole processes, start-up included"
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


def _recorders(run: Run | None, sides: Sequence[Side]) -> Html:
    rows = []
    for side in sides:
        meta = side.analysis.meta
        slow = text.ABSENT if run is None else _slowdown(run.manifest, side.name)
        file = PurePath(meta.file).name
        recorder = f"{meta.recorder} {meta.recorder_version}"
        rows.append([side.name, clip(file), recorder, meta.export_schema or text.ABSENT, slow])
    heads = ["variant", "trace", "recorder", "export schema", "traced / untraced"]
    return table("recordings", heads, rows, numbers=(4,))


def _slowdown(manifest: Manifest, name: str) -> str:
    """Median traced iteration over median untraced iteration; tracing that slows much distorts shares of time."""
    recording = next((v.recording for v in manifest.variants if v.name == name), None)
    traced = _iterations(recording, name)
    untraced = [ns for r in manifest.rounds for v in r.result.variants if v.name == name for ns in v.iterations_ns]
    if manifest.timed == "iterations":
        untraced += [ns for c in manifest.commands if c.variant == name for ns in c.answer.iterations_ns]
    if not traced or not untraced:
        return text.ABSENT
    return f"{text.significant(median(traced) / median(untraced))} ×"


def _iterations(recording: Recording | None, name: str) -> list[int]:
    if recording is not None and recording.answer is not None:
        return list(recording.answer.iterations_ns)
    if recording is None or recording.result is None:
        return []
    return [ns for v in recording.result.variants if v.name == name for ns in v.iterations_ns]


def _commands(m: Manifest) -> list[Html]:
    out = [element("h3", "Commands"), _command("capture", m.command_line)]
    for variant in m.variants:
        if variant.recording is not None:
            several = f" (first of {len(variant.recordings)})" if variant.again else ""
            out.append(_command(f"recording of {variant.name}{several}", variant.recording.command))
    for one in m.commands:
        if one.index == 0:
            out.append(_command(f"first untraced process of {one.variant}", one.command))
    if m.rounds:
        out.append(_command("first untraced round", m.rounds[0].command))
    return out


def _command(title: str, words: Sequence[str]) -> Html:
    line = element("pre", element("code", shlex.join(words)), tabindex=0)
    return element("div", element("p", title, class_="command-title"), line, class_="command")
