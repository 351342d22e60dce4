"""The catalog and the program files agree."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

import aisp_trace.workloads
from aisp_trace.traces.errors import UsageError
from aisp_trace.workloads.catalog import CATALOG, DEVICES, NEEDS, SIZES, Entry, find

FOLDER = Path(aisp_trace.workloads.__file__).parent
GUARD = 'if __name__ == "__main__":'
NO_WORKLOADS = {"calibration"}
"""Programs that measure the machine instead of proving something: `capture --calibrate` starts them."""


def programs() -> list[str]:
    """Files in workloads/ that can be started, but those that are not workloads."""
    return sorted(f.stem for f in FOLDER.glob("*.py") if _starts(f) and f.stem not in NO_WORKLOADS)


def _starts(file: Path) -> bool:
    return GUARD in file.read_text(encoding="utf-8").splitlines()


def test_every_program_is_listed_and_every_listed_program_exists() -> None:
    assert sorted(entry.name for entry in CATALOG) == programs()


@pytest.mark.parametrize("entry", CATALOG, ids=lambda e: e.name)
def test_a_program_implements_what_its_entry_says(entry: Entry) -> None:
    pytest.importorskip("torch")
    module = importlib.import_module(entry.module)
    assert tuple(module.VARIANTS) == entry.variant_names
    assert module.PROGRAM.entry is entry
    assert module.PROGRAM.variants is module.VARIANTS
    assert module.__doc__ is not None
    assert module.__doc__.startswith(f"{entry.name}:")


@pytest.mark.parametrize("entry", CATALOG, ids=lambda e: e.name)
def test_an_entry_keeps_the_rules(entry: Entry) -> None:
    assert entry.variant_names[0] == "baseline"
    assert "optimized" in entry.variant_names
    assert set(entry.variant_needs) <= set(entry.variant_names)
    assert set(entry.variant_needs.values()) <= set(NEEDS)
    assert not entry.lacks("baseline", 0) or "cpu" not in entry.devices, "the pair runs wherever the workload does"
    assert "optimized" in entry.kernels or entry.lacks("optimized", 0) == entry.lacks("baseline", 0)
    assert set(entry.kernels) <= set(entry.variant_names)
    assert all(entry.lacks(variant, 0) for variant in entry.kernels), "generated kernels need a GPU"
    assert len(set(entry.variant_names)) == len(entry.variant_names)
    assert len(entry.name) <= 20
    assert max(map(len, entry.variant_names)) <= 14, "names fit the columns of `aisp-trace list`"
    assert entry.devices
    assert set(entry.devices) <= set(DEVICES)
    assert entry.sizes == SIZES
    assert entry.default_iterations >= 10, "mechanism claims are judged on at least ten iterations"
    assert entry.default_warmup >= 1, "the first iteration pays lazy loading"


def test_programs_that_are_no_workloads_exist_and_cannot_be_captured() -> None:
    for name in NO_WORKLOADS:
        assert _starts(FOLDER / f"{name}.py")
        with pytest.raises(UsageError, match="no workload is called"):
            find(name)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'pipeline_sequentail'; did you mean 'pipeline_sequential'\?"):
        find("pipeline_sequentail")


def test_a_variant_lacks_what_the_machine_has_too_few_of() -> None:
    entry = dataclasses.replace(CATALOG[0], variant_needs={"graph": "cuda", "peer": "2 gpus"})
    assert [entry.lacks("graph", gpus) for gpus in range(3)] == ["cuda", "", ""]
    assert [entry.lacks("peer", gpus) for gpus in range(3)] == ["2 gpus", "2 gpus", ""]
    assert entry.lacks("baseline", 0) == ""
