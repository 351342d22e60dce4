"""The command lines whose answers are kept. Each runs in the folder of the recording, so anyone can repeat it by hand.

cd traces/samples && aisp-trace analyze h200x2_ddp.sqlite.xz --attribution thread --window all --no-fold --json
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aisp_trace.tests.builders.commands import actions
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.run import MANIFEST, load_run

Words = tuple[str, ...]

_FOLDING: Final = frozenset(
    str(action) for action in actions() if any("--no-fold" in parameter.opts for parameter in action.parser.params)
)
"""Commands that fold the names of stages."""

OUT: Final = "OUT"
"""Stands for the file or folder that `export` writes."""

_DECODE: Final = "h100_pipeline_decode.sqlite.xz"
_NODES: Final = "h100_pipeline_decode_graph_nodes.sqlite.xz"
_METRICS: Final = "h100_pipeline_decode_gpu_metrics_trimmed.sqlite.xz"
_SERIAL: Final = "pipeline_sequential/baseline"
_OVERLAPPED: Final = "pipeline_sequential/optimized"

_MORE: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu_threads_nsys2022.sqlite.xz": ("analyze {} --window pipeline/optimized",),
    _DECODE: (
        f"analyze {{}} --window {_OVERLAPPED}",
        "analyze {} --window decode/optimized --attribution thread",
        "analyze {} --window 8s:8.25s",
        "analyze {} --domain cuBLAS",
        "analyze {} --range decode --depth 2",
        "analyze {} --stages stage:.*2.*",
        "analyze {} --gaps 3 --no-cache",
        f"compare {{}} --window {_SERIAL} --against {_OVERLAPPED}",
        "compare {} --window decode/baseline --against decode/optimized --attribution thread",
        f"compare {{}} {_NODES}",
        f"export {{}} --to parquet -o {OUT}",
        f"export {{}} --to csv --window {_OVERLAPPED} -o {OUT}",
        f"export {{}} --to perfetto -o {OUT}.pftrace",
    ),
    _NODES: ("analyze {} --window decode/optimized", "compare {} --window decode/baseline --against decode/optimized"),
    _METRICS: ("analyze {} --window decode/optimized", f"export {{}} --to perfetto -o {OUT}.pftrace"),
    "h100_pipeline_decode_nsys2023.sqlite.xz": (f"compare {_DECODE} {{}}",),
    "h100_pipeline_decode_kineto.json.gz": (
        "analyze {} --window 4490836s:4490838s",
        f"export {{}} --to perfetto -o {OUT}.pftrace",
    ),
    "h200x2_ddp.sqlite.xz": (
        "analyze {} --domain NCCL",
        "analyze {} --window iteration#2",
        "compare {} --window iteration#1 --against iteration#4",
        f"export {{}} --to csv -o {OUT}",
        f"export {{}} --to perfetto -o {OUT}.pftrace",
    ),
    "h200x2_handoff.sqlite.xz": ("analyze {} --depth 1", "analyze {} --window iteration#1"),
    "h200_pipeline_sequential": (
        "compare {}:baseline {}:optimized",
        "compare {}/optimized {}/cuda_graph --exact",
        "analyze {} --window iteration#1",
        f"export {{}} --to json --variant cuda_graph -o {OUT}.json",
    ),
    "h200_memory_standard": ("compare {}:baseline {}:reuse", "analyze {} --depth 1"),
    "h200_end_to_end_bandwidth": ("analyze {} --attribution thread --gaps 0",),
}
"""What a sample was chosen to provoke, beside the calls that every one gets (``traces/samples/README.md``)."""


def sample_calls(path: Path) -> list[Words]:
    """The calls on the sample `path`, each a command line without ``aisp-trace`` and ``--json``."""
    if path.is_dir():
        usual = ["analyze {}", "compare {}", "check {} --expectations ../../expectations"]
    else:
        usual = ["analyze {}", "analyze {} --attribution thread"]
    lines = [line.format(*[path.name] * 2).split() for line in (*usual, *_MORE.get(path.name, ()))]
    return [with_everything(words, bare=path.is_file()) for words in lines]


def with_everything(words: Sequence[str], *, bare: bool) -> Words:
    """The call `words` with ``--no-fold`` where its command has that: an answer is kept of every stage by its own name. And of a
    `bare` trace with ``--window all`` where no window is named: an answer is of all of it, not of its steady iterations."""
    whole = ("--window", "all") if bare and words[0] == "analyze" and "--window" not in words else ()
    return (*words, *whole, *(("--no-fold",) if words[0] in _FOLDING else ()))


def first_call(path: Path) -> Words:
    """The call on any recording that decides whether there are more."""
    traced = path.is_file() or any(v.recording for v in load_run(path).manifest.variants)
    return with_everything(("analyze", path.name), bare=path.is_file()) if traced else _check(path)


def further_calls(path: Path, document: Mapping[str, Any]) -> Iterator[Words]:
    """More calls on the recording `path`, of which the `document` of its first call shows what there is to choose."""
    return (with_everything(words, bare=path.is_file()) for words in _further(path, document))


def _further(path: Path, document: Mapping[str, Any]) -> Iterator[Words]:
    if path.is_dir():
        if "traces" in document:
            yield "compare", path.name
            yield _check(path)
        return
    trace = document["traces"][0]
    yield "analyze", path.name, "--attribution", "thread"
    if windows := [ledger["window"] for ledger in trace["ledger"]]:
        start, end = windows[0]["start_ns"], windows[0]["end_ns"]
        if end - start >= 4:
            quarter = (end - start) // 4
            yield "analyze", path.name, "--window", f"{start + quarter}ns:{end - quarter}ns"
    if plain := [stage["path"] for stage in trace["stages"] if stage["path"].replace("/", "").isidentifier()]:
        yield "analyze", path.name, "--window", f"{plain[0]}#0"
    domains = set(open_trace(path).ranges["domain"].drop_nulls().unique().to_list())
    for domain in sorted(domains - {trace["selection"]["domain"], ""}):
        yield "analyze", path.name, "--domain", domain


def _check(path: Path) -> Words:
    own = path / "expectations"
    return ("check", path.name, *(("--expectations", f"{path.name}/expectations") if own.is_dir() else ()))


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder."""
    return (path / MANIFEST).is_file()
