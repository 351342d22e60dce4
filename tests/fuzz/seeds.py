"""Small honest inputs, of which damage is made: recordings, a run, a bundle, partials, expectations, a calibration.

All of it is made once, into one folder, by the project's own commands where they make such a thing.
"""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from aisp_trace.tests.builders.nsys_export import NsysExport, gid
from aisp_trace.traces.run import MANIFEST

ROOT: Final = Path(__file__).resolve().parents[2]
CASES: Final = ROOT / "tests" / "cases"
US: Final = 1000

KERNELS: Final = (
    "void gemm<float>(int)",
    "add",
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)",
    "flash_fwd_kernel",
    "sm90_xmma_gemm_bf16",
)
CALLS: Final = ("cudaLaunchKernel_v7000", "cudaMemcpyAsync_v3020", "cudaMalloc_v3020", "cudaDeviceSynchronize_v3020")


class Loose(NsysExport):
    """An export whose columns take nulls everywhere, since damage is to come."""

    def __init__(self, schema: str | None = "3.20.3") -> None:
        super().__init__(schema)
        self.columns = {name: declared.replace(" NOT NULL", "") for name, declared in self.columns.items()}


def export(rng: Random) -> NsysExport:
    """A plausible recording: iterations with stages, kernels, copies, calls on one or two threads and devices; and, by chance,
    graphs, memory, metrics, samples, unified memory, operating-system calls, overhead, diagnostics."""
    made = Loose(rng.choice(("3.20.3", "3.0.0", "3.25.1", None)))
    devices, pids = rng.choice(((0,), (0,), (0, 1))), rng.choice(((100,), (100,), (100, 200)))
    made.domain(1, "aisp") if rng.random() < 0.5 else None
    for device in devices:
        made.add(
            "TARGET_INFO_GPU",
            id=device,
            name="NVIDIA H100 80GB HBM3",
            totalMemory=85 << 30,
            memoryBandwidth=3352 * 10**9,
        )
        for pid in pids:
            made.add("TARGET_INFO_CUDA_DEVICE", gpuId=device, cudaId=device, pid=pid)
    correlation, at = 0, rng.choice((0, 10 * US, 10**9))
    for pid in pids:
        for step in range(rng.randrange(1, 7)):
            begin = at
            for stage in ("load", "forward", rng.choice(("backward", "h2d", "comm"))):
                stage_begin = at
                for _ in range(rng.randrange(1, 4)):
                    correlation += 1
                    tid, device = pid + rng.choice((0, 0, 0, 1)), rng.choice(devices)
                    length, wait = rng.randrange(1, 40) * US, rng.randrange(0, 20) * US
                    made.call(at, at + 3 * US, rng.choice(CALLS), pid=pid, tid=tid, correlationId=correlation)
                    begun = at + 4 * US + wait
                    more: dict[str, Any] = {
                        "correlationId": correlation,
                        "deviceId": device,
                        "streamId": rng.choice((7, 7, 13)),
                    }
                    kind = rng.random()
                    if kind < 0.6:
                        grid = {"gridX": 8, "gridY": 1, "gridZ": 1, "blockX": 128, "blockY": 1, "blockZ": 1}
                        made.kernel(begun, begun + length, rng.choice(KERNELS), pid=pid, **more, **grid)
                    elif kind < 0.9:
                        copy = rng.choice((1, 2, 8, 10, 11, 12))
                        kinds = {"srcKind": rng.choice((0, 1, 2)), "dstKind": rng.choice((0, 1, 2))}
                        made.copy(begun, begun + length, copy, rng.randrange(1, 2**24), pid=pid, **more, **kinds)
                    else:
                        made.add(
                            "CUPTI_ACTIVITY_KIND_MEMSET",
                            start=begun,
                            end=begun + length,
                            globalPid=gid(pid),
                            bytes=64,
                            **more,
                        )
                    at += rng.randrange(1, 30) * US + rng.randrange(0, 3) * wait
                made.range(stage_begin, at, stage, pid=pid, tid=pid, domainId=rng.choice((0, 0, 1)))
            made.range(
                begin, at + US, rng.choice(("iteration", "iteration", f"step {step}", "train")), pid=pid, tid=pid
            )
            at += 10 * US
    _extras(rng, made, pids[0], at)
    return made


def _extras(rng: Random, made: NsysExport, pid: int, end: int) -> None:
    """What only some recordings have."""
    times = [rng.randrange(0, end + 1) for _ in range(6)]
    if rng.random() < 0.3:
        for i, at in enumerate(times):
            values = {"address": 4096 * (i // 2), "bytes": 1 << 20, "memKind": 2, "memoryOperationType": i % 2}
            made.add("CUDA_GPU_MEMORY_USAGE_EVENTS", start=at, globalPid=gid(pid), deviceId=0, contextId=1, **values)
    if rng.random() < 0.25:
        made.add(
            "TARGET_INFO_GPU_METRICS",
            typeId=1,
            sourceId=1,
            typeName="GA",
            metricId=1,
            metricName="DRAM Read Throughput [%]",
        )
        for at in times:
            made.add("GPU_METRICS", rawTimestamp=at, timestamp=at, typeId=1, metricId=1, value=rng.randrange(101))
    if rng.random() < 0.25:
        made.add("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", start=end, end=end + 50 * US, deviceId=0, contextId=1, streamId=7,
                 correlationId=9999, globalPid=gid(pid), graphId=1, graphExecId=2)  # fmt: skip
        made.call(end - US, end, "cudaGraphLaunch_v10000", pid=pid, tid=pid, correlationId=9999)
        made.node(times[0], (1 << 32) | 1).node(times[1], (2 << 32) | 1, (1 << 32) | 1)
    if rng.random() < 0.25:
        for at in times:
            made.add(
                "OSRT_API", start=at, end=at + 5 * US, globalTid=gid(pid, pid), nameId=made.string("pthread_cond_wait")
            )
    if rng.random() < 0.25:
        for at in times:
            made.sample(at, "step@train.py", None, "main@python", pid=pid, tid=pid)
    if rng.random() < 0.25:
        made.add(
            "PROFILER_OVERHEAD",
            start=times[0],
            end=times[0] + US,
            globalTid=gid(pid, pid),
            nameId=made.string("flush"),
            returnValue=0,
        )
        made.add(
            "DIAGNOSTIC_EVENT",
            timestamp=0,
            timestampType=1,
            source=1,
            severity=3,
            text="events were lost",
            globalPid=gid(pid),
        )
    if rng.random() < 0.25:
        sync = {
            "deviceId": 0,
            "contextId": 1,
            "streamId": 7,
            "correlationId": 3,
            "globalPid": gid(pid),
            "syncType": 3,
            "eventId": 1,
        }
        made.add("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", start=times[2], end=times[2] + 4 * US, **sync)
        made.add(
            "CUPTI_ACTIVITY_KIND_CUDA_EVENT",
            deviceId=0,
            contextId=1,
            streamId=7,
            correlationId=2,
            globalPid=gid(pid),
            eventId=1,
        )
    if rng.random() < 0.3:
        made.add("ThreadNames", nameId=made.string("loader"), priority=0, globalTid=gid(pid, pid + 1))
        made.add("PROCESSES", globalPid=gid(pid), pid=pid, name="python3")


def profile(rng: Random) -> dict[str, Any]:
    """A plausible torch.profiler trace."""
    events: list[dict[str, Any]] = []
    at = rng.choice((0.0, 1000.125, 1.7e15))
    n = 0
    for step in range(rng.randrange(1, 6)):
        begin = at
        for _ in range(rng.randrange(1, 6)):
            n += 1
            length, wait = rng.randrange(1, 40000) / 1000, rng.randrange(0, 9000) / 1000
            call = {"External id": n, "correlation": n, "cbid": 211}
            events.append(
                {
                    "ph": "X",
                    "cat": "cpu_op",
                    "name": "aten::mm",
                    "pid": 9,
                    "tid": 9,
                    "ts": at,
                    "dur": 4.5,
                    "args": {"External id": n},
                }
            )
            kind = rng.choice(("kernel", "kernel", "gpu_memcpy", "gpu_memset"))
            name = {"kernel": "cudaLaunchKernel", "gpu_memcpy": "cudaMemcpyAsync", "gpu_memset": "cudaMemsetAsync"}[
                kind
            ]
            events.append(
                {
                    "ph": "X",
                    "cat": "cuda_runtime",
                    "name": name,
                    "pid": 9,
                    "tid": 9,
                    "ts": at + 1,
                    "dur": 2.25,
                    "args": call,
                }
            )
            names = {
                "kernel": rng.choice(KERNELS),
                "gpu_memcpy": "Memcpy HtoD (Pinned -> Device)",
                "gpu_memset": "Memset (Device)",
            }
            args = {
                "device": 0,
                "context": 1,
                "stream": 7,
                "correlation": n,
                "External id": n,
                "bytes": 4096,
                "grid": [8, 1, 1],
                "block": [128, 1, 1],
            }
            events.append(
                {
                    "ph": "X",
                    "cat": kind,
                    "name": names[kind],
                    "pid": 0,
                    "tid": 7,
                    "ts": at + 4 + wait,
                    "dur": length,
                    "args": args,
                }
            )
            at += rng.randrange(1, 30000) / 1000
        events.append(
            {
                "ph": "X",
                "cat": "user_annotation",
                "name": f"ProfilerStep#{step}",
                "pid": 9,
                "tid": 9,
                "ts": begin,
                "dur": at - begin,
                "args": {},
            }
        )
    events.append({"ph": "M", "name": "process_name", "pid": 9, "tid": 0, "ts": 0, "args": {"name": "python"}})
    if rng.random() < 0.3:
        events.append({"ph": "i", "s": "t", "cat": "cpu_instant_event", "name": "[memory]", "pid": 9, "ts": at,
                       "args": {"Device Type": 1, "Device Id": 0, "Addr": 4096, "Bytes": 512, "Total Allocated": 9}})  # fmt: skip
    rng.shuffle(events) if rng.random() < 0.2 else None
    device = {
        "id": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "totalGlobalMem": 85 << 30,
        "numSms": 132,
        "computeMajor": 9,
        "computeMinor": 0,
    }
    return {"schemaVersion": 1, "deviceProperties": [device], "distributedInfo": {"rank": 0, "world_size": 2},
            "traceEvents": events, "traceName": "trace.json", "displayTimeUnit": "ms", "baseTimeNanoseconds": 1}  # fmt: skip


CALIBRATION: Final = "calibration_h100.json"


class Seeds:
    """Everything, below one folder. Make it before anything forks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exports = [self._export(number) for number in range(24)]
        self.recorded = [self._unpacked(file) for file in sorted((CASES / "nsys").glob("*.xz"))]
        self.profiles = [p for p in sorted((CASES / "kineto").iterdir()) if p.stat().st_size < 200_000]
        self.run = self._run()
        self.expectations = self._expectations()
        self.calibration = self._calibration()
        self.partials = self._partials()
        self.bundle = self._bundle()

    def _export(self, number: int) -> Path:
        file = self.folder / f"export_{number}.sqlite"
        return export(Random(f"export {number}")).write(file)

    def _unpacked(self, file: Path) -> Path:
        target = self.folder / file.name.removesuffix(".xz")
        target.write_bytes(lzma.decompress(file.read_bytes()))
        return target

    def _run(self) -> Path:
        run = self.folder / "run"
        made = (
            "from pathlib import Path; from aisp_trace.tests.judging.build import run_folder; run_folder(Path('run'))"
        )
        self._python("-c", made)
        for number, variant in enumerate(("baseline", "optimized")):
            (run / variant).mkdir()
            shutil.copy(self.exports[number], run / variant / "trace.sqlite")
        return run

    def _expectations(self) -> list[Path]:
        """Those of the project, and those that `accept` makes of the run, whose machine they are for."""
        folder = self.folder / "expectations"
        folder.mkdir()
        document = json.loads((ROOT / "expectations" / "expectations_h200.json").read_text(encoding="utf-8"))
        document["claims"] = document["claims"][:6]
        (folder / "expectations_h200.json").write_text(json.dumps(document, indent=1))
        own = json.loads((self.run / MANIFEST).read_text(encoding="utf-8"))["workload"]
        claims = [claim | {"workload": own, "size": "default"} for claim in json.loads(json.dumps(document["claims"]))]
        (folder / "expectations_h100.json").write_text(
            json.dumps(document | {"hardware_key": "h100", "claims": claims}, indent=1)
        )
        return sorted(folder.iterdir())

    def _calibration(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (ROOT / "expectations" / "calibration_h200.json").read_text(encoding="utf-8")
        )
        found["hardware_key"] = found["hardware"]["key"] = "h100_80gb_hbm3"
        return found

    def _partials(self) -> list[Path]:
        folder = self.folder / "partials"
        folder.mkdir()
        self._command("analyze", "--partial", str(folder), *map(str, self.exports[:4]))
        return sorted(folder.iterdir())

    def _bundle(self) -> Path | None:
        file = self.folder / "run.bundle.tar.gz"
        self._command("bundle", str(self.run), "--expectations", str(self.folder / "expectations"), "-o", str(file))
        return file if file.exists() else None

    def _command(self, *words: str) -> None:
        """One of the program's own commands."""
        self._python("-m", "aisp_trace.cli", *words)

    def _python(self, *words: str) -> None:
        """Run Python in the folder, in a process of its own: this one must not start polars' threads before it forks."""
        done = subprocess.run([sys.executable, "-P", *words], cwd=self.folder, capture_output=True, text=True)
        if done.returncode not in (0, 1, 3):
            raise RuntimeError(f"{' '.join(words)}: {done.returncode} {done.stderr}")


def damaged_folder(rng: Random, files: Sequence[Path], change: Any) -> None:
    """Apply `change` (bytes to bytes) to one or a few of `files`, in place."""
    for file in rng.sample(files, min(len(files), rng.choice((1, 1, 2)))):
        file.write_bytes(change(rng, file.read_bytes()))
