"""The way of `expectations new`: what a workload consists of, a claim for each variant, shown and added to the machine's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..capture import host
from ..report.terminal.console import say, say_wrapped
from ..traces.errors import UsageError
from ..traces.faults import nearest
from ..traces.hardware_key import vague_key
from ..traces.run import RUNS_DIR, runs_below
from ..workloads import catalog
from .plans import FILE_VARIANTS


@dataclass(frozen=True, slots=True)
class Known:
    """What claims on a workload need to name: its variants in order, the size, the machine and its processor; `said` by whom."""

    workload: str
    variants: tuple[str, ...]
    size: str | None
    hardware_key: str
    cpu: str
    said: str


def start(workload: str, asked: Path | None) -> None:
    """Add a claim to fill in for each variant of `workload` to the file in `asked`, else in ``./expectations``."""
    from ..expectations.claims.skeleton import TO_DO, skeleton
    from ..expectations.claims.write import place_to_write
    from ..report.terminal.expectations import print_skeleton

    known = known_of(workload)
    place = place_to_write(asked, known.hardware_key, Path.cwd())
    if place.file.hardware_key != known.hardware_key:
        raise UsageError(
            f"{place.path} is for {place.file.hardware_key}, but {known.said} is on {known.hardware_key}; name its folder"
        )
    claims = skeleton(known.workload, known.variants, known.size)
    place.with_added(claims)  # refused before anything is shown
    print_skeleton(place, claims, known.workload)
    place.add(claims)
    say("")
    say(f"Written to {place.path}, with the variants of {known.said}.")
    if vague := vague_key(known.hardware_key, known.cpu):
        say_wrapped(f"note: {vague}.")
    say_wrapped(
        f"next: replace what says {TO_DO}, and ratio and max_ms of each claim; then `aisp-trace expectations validate`."
    )
    say_wrapped("Or delete a claim, and `aisp-trace accept RUN` takes its bounds from a run.")
    say_wrapped("Counts, overlaps and shares can be claimed, too: `aisp-trace expectations metrics`.")


def known_of(workload: str) -> Known:
    """From the newest run of `workload` in the current folder, else from the catalog or as a file's, for this machine.

    Raises `UsageError` if nobody knows it.
    """
    file = Path(workload)
    name = file.stem if workload.endswith(".py") else workload
    runs = [run for run in runs_below(Path(RUNS_DIR)) if run.manifest.workload == name]
    if runs:
        made = runs[-1].manifest
        variants = tuple(variant.name for variant in made.variants)
        return Known(name, variants, made.size, made.hardware.key, made.hardware.cpu, f"run {made.run_id}")
    here = host.hardware("cuda" if host.cuda_usable() else "cpu")
    entry = catalog.known(name)
    if entry is not None:
        return Known(name, entry.variant_names, "default", here.key, here.cpu, "this version, and this machine")
    if workload.endswith(".py") and file.is_file():
        return Known(
            name, tuple(v for v, _ in FILE_VARIANTS), "default", here.key, here.cpu, "any file, and this machine"
        )
    hint = nearest(name, catalog.names()) or "; capture it first"
    raise UsageError(f"no run of {name!r} lies in {RUNS_DIR}, and no workload of ours is called so{hint}")
