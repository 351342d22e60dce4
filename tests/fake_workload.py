"""A workload that does nothing, quickly, and misbehaves on request: the other end of the process protocol for tests.

Started by path like a workload in a user's file. It needs no torch. What it should do wrong comes from variables:

    FAKE_LOG        file that gets one line per process: its variants in order, and "trace" for a traced one
    FAKE_HANG       name of a variant: write the ids of this process and of a child it starts to FAKE_PIDS, then hang
    FAKE_PIDS       file for those ids
    FAKE_EXIT       "variant:code": say so on stderr and leave with that exit code, without a result
    FAKE_ITEMS      "variant:number": other required work than the rest (10 items)
    FAKE_ERROR      "variant:number": the output's error; "inf" stands for an infinite one
    FAKE_DROP       name of a variant that is left out of the result
    FAKE_SILENT     set: open no range, although asked to trace
    FAKE_PASS       name of a variant that says its timed iterations took from 1.0 to 1.1 s of the monotonic clock, and an energy
                    pass of 50 iterations from 2.0 to 2.5 s; the others say their timed span alone
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aisp_trace.capture.stages import iteration, measured, stage
from aisp_trace.traces.run import Output, ProcessResult, VariantResult, Work, write_json

TOLERANCE = 1e-3


def main() -> None:
    """Answer the process protocol."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", action="append", required=True)
    for name in ("--iterations", "--warmup", "--seed"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--size", "--device"):
        parser.add_argument(name, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--trace", action="store_true")
    args = parser.parse_args()
    if log := os.environ.get("FAKE_LOG"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(" ".join([*args.variant, *(["trace"] if args.trace else [])]) + "\n")
    variants = [run_variant(name, args.iterations, args.trace) for name in args.variant]
    result = ProcessResult(
        schema="aisp-trace/result/1",
        workload="fake_workload",
        device=args.device,
        size=args.size,
        seed=args.seed,
        variants=[v for v in variants if v.name != os.environ.get("FAKE_DROP")],
        facts={"fake": True},
    )
    write_json(args.result, result)


def run_variant(name: str, iterations: int, trace: bool) -> VariantResult:
    """Misbehave if asked to, else trace if asked to, and report constant figures."""
    if os.environ.get("FAKE_HANG") == name:
        hang()
    if (code := asked("FAKE_EXIT", name)) is not None:
        print(f"{name} was asked to fail", file=sys.stderr)
        raise SystemExit(int(code))
    if trace and "FAKE_SILENT" not in os.environ:
        traced(iterations)
    error = asked("FAKE_ERROR", name) or "0.0001"
    value = None if error == "inf" else float(error)
    return VariantResult(
        name=name,
        timer="perf_counter",
        iterations_ns=[1_000_000] * iterations,
        work=Work(int(asked("FAKE_ITEMS", name) or 10), "items", 1000, 64, 64, {"h2d": 64}),
        output=Output(value, TOLERANCE, "float64", 0, value is not None and value <= TOLERANCE),
        **spans(name),
    )


def spans(name: str) -> dict[str, Any]:
    """What `FAKE_PASS` asks for."""
    if (asked := os.environ.get("FAKE_PASS")) is None:
        return {}
    again = {"repeated_ns": (2_000_000_000, 2_500_000_000), "repeated": 50} if asked == name else {}
    return {"timed_ns": (1_000_000_000, 1_100_000_000), **again}


def asked(variable: str, name: str) -> str | None:
    """The value that `variable` has for variant `name`."""
    variant, _, value = os.environ.get(variable, "").partition(":")
    return value if variant == name else None


def traced(iterations: int) -> None:
    """Measured iterations with a stage on this thread and one on a thread that exists before the recording."""
    begin, ended = threading.Event(), threading.Event()

    def work() -> None:
        for _ in range(iterations):
            begin.wait()
            begin.clear()
            with stage("compute", kind="compute"):
                time.sleep(0.001)
            ended.set()

    worker = threading.Thread(target=work)
    worker.start()
    with measured():
        for _ in range(iterations):
            with iteration():
                with stage("load", kind="h2d", nbytes=4096):
                    time.sleep(0.001)
                begin.set()
                ended.wait()
                ended.clear()
    worker.join()


def hang() -> None:
    """Write this process's id and that of a child in a session of its own, then sleep for longer than any test."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    partial = Path(os.environ["FAKE_PIDS"] + ".tmp")
    partial.write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    partial.replace(os.environ["FAKE_PIDS"])
    time.sleep(300)


if __name__ == "__main__":
    main()
