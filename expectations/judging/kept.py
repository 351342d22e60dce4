"""What the processes of a run wrote themselves, against what its manifest says of them. Reads the run's folder.

    rounds/round_00.json      a round's answer         manifest.rounds[0].result
    baseline/traced.json      a recorded process's     manifest.variants[0].recording.result

`capture` copies the answers into the manifest and leaves the files. A run that was given away has none, which says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Final

from ...traces.documents import RESULT, read
from ...traces.errors import InputError
from ...traces.run import ProcessResult, Run, VariantResult, from_json


def contradictions(run: Run) -> Iterator[str]:
    """A sentence for each answer that is another one in its file than in the manifest."""
    said = [(f"round {made.index}", made.command, made.result) for made in run.manifest.rounds]
    for variant in run.manifest.variants:
        for recording in variant.recordings:
            if recording.result is not None:
                said.append((f"the recording of {variant.name}", recording.command, recording.result))
    for where, command, result in said:
        file = next((run.path / word for flag, word in pairwise(command) if flag == "--result"), None)
        if file is None or not _inside(file, run.path):
            continue
        try:
            kept = from_json(ProcessResult, read(file, RESULT), file.name)
        except InputError as exc:
            yield f"what {where} wrote itself cannot be read ({str(exc)[:200]})"
            continue
        if part := _differing(kept, result):
            yield f"the manifest says another {part} of {where} than {file.relative_to(run.path)}, which its process wrote"


_FIELDS: Final = tuple(field.name for field in fields(VariantResult) if field.name != "name")
"""What a process says of a variant, beside its name."""


def _inside(file: Path, folder: Path) -> bool:
    return file.is_file() and file.resolve().is_relative_to(folder.resolve())


def _differing(kept: ProcessResult, said: ProcessResult) -> str:
    """The first part of an answer that differs, in words; empty where none does."""
    for field in ("workload", "device", "size", "seed", "facts"):
        if getattr(kept, field) != getattr(said, field):
            return field
    if [v.name for v in kept.variants] != [v.name for v in said.variants]:
        return "list of variants"
    for one, other in zip(kept.variants, said.variants, strict=True):
        for field in _FIELDS:
            if getattr(one, field) != getattr(other, field):
                return f"{field} of {one.name}"
    return ""
