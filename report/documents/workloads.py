"""What ``aisp-trace list --json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...workloads.catalog import Entry, devices_here

SCHEMA: Final = "aisp-trace/list/1"


def document(entries: Sequence[Entry], gpus: int = 0) -> dict[str, Any]:
    """All facts of `entries` as plain JSON types (``docs/json.md``), and where a machine with `gpus` GPUs runs them."""
    return {"schema": SCHEMA, "workloads": [_facts(entry, gpus) for entry in entries]}


def _facts(entry: Entry, gpus: int) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "variants": [{"name": name, "description": description} for name, description in entry.variants],
        "needs": entry.needs,
        "proves": entry.proves,
        "devices": list(entry.devices),
        "sizes": list(entry.sizes),
        "default_iterations": entry.default_iterations,
        "default_warmup": entry.default_warmup,
        "process_per_variant": entry.process_per_variant,
        "variant_needs": dict(entry.variant_needs),
        "changes": dict(entry.changes),
        "gpus": entry.gpus,
        "kernels": dict(entry.kernels),
        "tasks": list(entry.tasks),
        "runs_here_on": devices_here(entry, gpus),
        "module": entry.module,
    }
