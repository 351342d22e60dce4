"""The process protocol: what every workload program understands on its command line, and what it answers.

    python -P -m aisp_trace.workloads.NAME --variant baseline --variant optimized --iterations 10 --result FILE
    python -P -m aisp_trace.workloads.NAME --variant optimized --trace

Without --result a person is reading: a few lines are printed instead, and a wrong output is an error. With it the
answer, right or wrong, goes to FILE as a `ProcessResult` ("aisp-trace/result/1") and nothing is printed.

The heap of the host is that of a process which has run for long: freed memory is kept (traces/heap.py). Otherwise variants
that make host tensors would be timed with page faults that come and go by accident.

Started by torchrun, every rank takes the GPU of its LOCAL_RANK, and rank 0 alone answers.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import platform
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from ..capture.stages import INJECTED, RECORDER_VARIABLE
from ..kernels import guard
from ..kernels.tasks import NAMES as TASKS
from ..traces.errors import AispTraceError, UsageError, WorkloadError
from ..traces.heap import keep_freed_memory
from ..traces.run import HARNESS, ProcessResult, VariantResult, write_json
from .catalog import Entry
from .interface import Program
from .measure import measure

SCHEMA: Final = "aisp-trace/result/1"
INTERRUPTED: Final = 130


def main(program: Program[Any]) -> None:
    """Run `program` as this process's command line asks, and leave with its exit code."""
    sys.exit(run(program, sys.argv[1:]))


def run(program: Program[Any], argv: Sequence[str]) -> int:
    """The whole protocol; returns the exit code. Only errors meant for people are turned into one."""
    options = _parse(program, argv)
    try:
        _refuse_contradictions(program, options)
        result = execute(program, options)
        if int(os.environ.get("RANK", "0")) > 0:
            return 0
        if options.result is not None:
            write_json(options.result, result)
        else:
            _show(program, result, options)
            _refuse_wrong_output(result)
    except AispTraceError as exc:
        print(f"{program.entry.name}: {exc}", file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def execute(program: Program[Any], options: argparse.Namespace) -> ProcessResult:
    """Set up once, then measure the asked variants in the asked order.

    Raises `UsageError` where the device is not there; whatever the workload raises passes through.
    """
    kept = keep_freed_memory()
    entry = program.entry.of_task(options.task)
    guard.enable(options.kernels)
    device = _device(program, options.device)
    names = _able(entry, options.variants, device)
    setup: Any = program.setup
    problem = setup(device, options.size, options.seed, **({"task": options.task} if options.task else {}))
    variants: list[VariantResult] = []
    for name in names:
        # Every variant finds the pool empty, whatever the setup or the variant before it left there.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        variants.append(measure(program, problem, name, device, options.iterations, options.warmup, options.trace))
    return ProcessResult(
        schema=SCHEMA,
        workload=entry.name,
        device=device.type,
        size=options.size,
        seed=options.seed,
        variants=variants,
        facts=_facts(device) | {"freed_host_memory": "kept" if kept else "left to the C library"},
    )


def _parse(program: Program[Any], argv: Sequence[str]) -> argparse.Namespace:
    entry = program.entry
    parser = argparse.ArgumentParser(
        prog=f"python -P -m {entry.module}", description=f"{entry.name}: {entry.title}.", allow_abbrev=False
    )
    parser.add_argument(
        "--variant",
        dest="variants",
        action="append",
        choices=entry.variant_names,
        help="a variant to run; may be repeated, the order is kept (default: all that can run here)",
    )
    parser.add_argument("--iterations", type=_count(1), default=entry.default_iterations, metavar="K", help="timed")
    parser.add_argument("--warmup", type=_count(0), default=entry.default_warmup, metavar="W", help="run before those")
    parser.add_argument("--size", choices=entry.sizes, default="default")
    parser.add_argument("--device", choices=entry.devices, help="default: cuda where there is one")
    parser.add_argument("--seed", type=_count(0), default=0, metavar="N", help="of the inputs")
    parser.add_argument(
        "--enable-kernel",
        dest="kernels",
        action="append",
        choices=TASKS,
        metavar="NAME",
        help="let a verified generated kernel run, as AISP_KERNELS does; may be repeated",
    )
    if entry.tasks:
        parser.add_argument("--task", choices=entry.tasks, help="which kernel")
    parser.add_argument("--result", type=Path, metavar="FILE", help="write the answer here instead of printing it")
    parser.add_argument("--trace", action="store_true", help="one variant, its iterations inside the recording gate")
    options = parser.parse_args(argv)
    options.variants, options.kernels = options.variants or [], options.kernels or []
    options.task = getattr(options, "task", None)
    return options


def _count(least: int) -> Any:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise ValueError
        return value

    number.__name__ = f"integer >= {least}"  # argparse names the type in its message
    return number


def _refuse_contradictions(program: Program[Any], options: argparse.Namespace) -> None:
    asked, known = options.variants or program.entry.variant_names, ", ".join(program.entry.variant_names)
    if len(set(asked)) < len(asked):
        raise UsageError(f"a variant is asked for twice ({', '.join(asked)}); name each once, or ask for --iterations")
    if options.trace and len(asked) != 1:
        raise UsageError(
            f"--trace records one variant and {len(asked)} are asked for; add --variant with one of {known}"
        )
    if program.entry.process_per_variant and len(asked) != 1:
        raise UsageError(f"its variants must not share a process; add --variant with one of {known}")
    if options.result is not None and not options.result.absolute().parent.is_dir():
        raise UsageError(f"--result {options.result} lies in a folder that does not exist; create it first")


def _device(program: Program[Any], asked: str | None) -> torch.device:
    available = torch.cuda.is_available()
    chosen = asked or ("cuda" if available and "cuda" in program.entry.devices else program.entry.devices[0])
    if chosen == "cpu":
        return torch.device("cpu")
    if not available:
        remedy = "use --device cpu or " if "cpu" in program.entry.devices else ""
        raise UsageError(f"a CUDA device is needed, but torch finds none; {remedy}see `aisp-trace doctor`")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _able(entry: Entry, asked: Sequence[str], device: torch.device) -> list[str]:
    """The variants to run: those asked for, or all that this machine can run; raises `UsageError` if it cannot.

    A variant that runs a generated kernel is only left out here where the kernel is not enabled; what else the guard has against
    it learns that when it is prepared.
    """
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    for name in asked:
        if need := entry.lacks(name, gpus):
            raise UsageError(f"variant {name} needs {need}, and this process can use {gpus or 'no'} GPUs; leave it out")
    off = {name for name, task in entry.kernels.items() if "." not in entry.name and not guard.is_enabled(task)}
    return list(asked) or [name for name in entry.variant_names if not entry.lacks(name, gpus) and name not in off]


def _facts(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    return {
        **({"ranks": ranks} if ranks > 1 else {}),
        "harness": HARNESS,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device_name": torch.cuda.get_device_name(device) if cuda else _processor(),
        **(_cuda_facts(device) if cuda else {}),
        "host_threads": torch.get_num_threads(),
    }


def _cuda_facts(device: torch.device) -> dict[str, Any]:
    """Which device it is (a digest: the number itself belongs to the machine's owner), its driver, and the host's processor."""
    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))  # torch 2.4 and later
    known = re.fullmatch(r"[0-9a-fA-F-]{32,36}", uuid) is not None
    file = Path("/proc/driver/nvidia/version")
    words = file.read_text(encoding="utf-8", errors="replace").split() if file.is_file() else []
    return {
        "device_uuid": hashlib.sha256(uuid.encode()).hexdigest()[:16] if known else None,
        "driver": next((word for word in words if re.fullmatch(r"\d+\.\d+(\.\d+)?", word)), None),
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _show(program: Program[Any], result: ProcessResult, options: argparse.Namespace) -> None:
    print(
        f"{result.workload} on {result.device} ({result.facts['device_name']}), size {result.size}, seed {result.seed}:"
        f" {options.iterations} iterations after {options.warmup} to warm up"
    )
    width = max(len(v.name) for v in result.variants)
    for v in result.variants:
        ms = [ns / 1e6 for ns in v.iterations_ns]
        error = "not finite" if v.output.error is None else f"{v.output.error:.1e}"
        print(
            f"  {v.name:<{width}}  median {statistics.median(ms):.3f} ms, {min(ms):.3f} to {max(ms):.3f};"
            f" output error {error} (allowed {v.output.tolerance:.0e})"
        )
        print(f"  {'':<{width}}  each {' '.join(f'{t:.2f}' for t in ms[:10])}{' ...' if len(ms) > 10 else ''}")
    if options.trace and not any(os.environ.get(name) for name in (RECORDER_VARIABLE, *INJECTED)):
        print(
            "Stages were not recorded: that happens only under a recorder, which"
            f" `aisp-trace capture {result.workload}` starts."
        )


def _refuse_wrong_output(result: ProcessResult) -> None:
    for v in result.variants:
        if not v.output.ok:
            how = "is not finite" if v.output.error is None else f"is {v.output.error:.1e}"
            raise WorkloadError(
                f"the output of {v.name} is wrong: its error against the reference {how}, {v.output.tolerance:.0e} is"
                f" allowed, and {v.output.poisoned} elements were never written; its times mean nothing"
            )
        if v.proof is not None and v.proof.objections:
            raise WorkloadError(f"{v.proof.objections[0]}; its times mean nothing")
