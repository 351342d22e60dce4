"""Make a run folder small enough for traces/samples: manifest and scrubbed traces, compressed.

python -P scripts/make_sample.py RUN FOLDER [--traces VARIANT ...] [--most MIB]

The copy has no logs, no .nsys-rep and no separate answers of rounds (the manifest holds them). With --traces only those
variants keep their recording; the manifest's notes say which ones lost it.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aisp_trace.analyze.words import size
from aisp_trace.report.terminal import console
from aisp_trace.traces.errors import AispTraceError, InputError, UsageError
from aisp_trace.traces.faults import nearest
from aisp_trace.traces.run import MANIFEST, Run, Variant, load_run, write_json
from aisp_trace.traces.scrub.run import scrub_run


def main(arguments: list[str] | None = None) -> int:
    """Copy the run that is named into the folder that is named, or say why not."""
    parser = argparse.ArgumentParser(description="Make a small copy of a run folder to keep.", allow_abbrev=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder made by `aisp-trace capture`")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the copy, which must not exist")
    parser.add_argument("--traces", action="append", metavar="VARIANT", help="keep only these recordings; repeatable")
    parser.add_argument("--most", type=float, default=1.0, metavar="MIB", help="refuse a larger copy; default: 1")
    asked = parser.parse_args(arguments)
    try:
        nbytes = make(load_run(asked.run), asked.folder, asked.traces, round(asked.most * (1 << 20)))
    except AispTraceError as error:
        console.warn(str(error))
        return error.exit_code
    console.say(f"{asked.folder}: {size(nbytes)}")
    return 0


def make(run: Run, folder: Path, traces: Sequence[str] | None, most_bytes: int) -> int:
    """Write the copy of `run` whole or not at all, and answer its size in bytes.

    Raises `UsageError` if `folder` exists or a variant of `traces` does not, `InputError` if the copy is larger than
    `most_bytes` or a trace cannot be scrubbed.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already; remove it or name another folder")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        copy = scrub_run(_with_traces(run, traces), Path(work) / "run")
        variants = [_compressed(copy, variant) for variant in copy.manifest.variants]
        write_json(copy.path / MANIFEST, replace(copy.manifest, variants=variants))
        nbytes = sum(file.stat().st_size for file in copy.path.rglob("*") if file.is_file())
        if nbytes > most_bytes:
            found, allowed = size(nbytes), size(most_bytes)
            raise InputError(
                f"the copy of {run.path} has {found}, above {allowed}; name fewer --traces or allow --most"
            )
        copy.path.replace(folder)
    return nbytes


def _with_traces(run: Run, kept: Sequence[str] | None) -> Run:
    if kept is None:
        return run
    names = [v.name for v in run.manifest.variants if v.recording is not None]
    for name in kept:
        if name not in names:
            has = f"it has {', '.join(names)}"
            raise UsageError(f"run {run.path} has no recording of {name!r}{nearest(name, names, has)}")
    lost = [name for name in names if name not in kept]
    variants = [v if v.name in kept else replace(v, recording=None) for v in run.manifest.variants]
    notes = [*run.manifest.notes, *([f"left out of this copy: the recordings of {', '.join(lost)}"] if lost else [])]
    return Run(run.path, replace(run.manifest, variants=variants, notes=notes))


def _compressed(run: Run, variant: Variant) -> Variant:
    """The variant with its .sqlite as .sqlite.xz; torch.profiler's traces stay as they are."""
    recording = variant.recording
    if recording is None or not recording.trace.endswith(".sqlite"):
        return variant
    plain = run.path / recording.trace
    packed = plain.with_name(f"{plain.name}.xz")
    with plain.open("rb") as source, lzma.open(packed, "wb", preset=9 | lzma.PRESET_EXTREME) as target:
        shutil.copyfileobj(source, target)
    plain.unlink()
    return replace(variant, recording=replace(recording, trace=f"{recording.trace}.xz"))


if __name__ == "__main__":
    sys.exit(main())
