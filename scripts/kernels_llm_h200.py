"""A session of `kernels emit --generator llm` on this machine's GPU, with answers that a local server gives by a script.

python -P scripts/kernels_llm_h200.py FOLDER [TASK ...] [--dtype bfloat16] [--seconds 480]

Needs a GPU, nvcc, nsys and the packages of the extra `llm`; no network. The template begins with its slowest parameters. The
server then answers as a model might, one source a round, and each answer has an outcome that it must have:

    does not compile | writes nothing | never ends | takes 32 GiB of the device | the template's part with its default parameters

What the last one gains is measured as always, by the recording. FOLDER gets sessions.json: by task the outcome of each attempt
and its time, and below FOLDER/artifacts the sessions. Leaves 1 if an outcome is another than it must be, or if nothing was
gained; 3 without a GPU. The server is the tests' (tests/builders/chat_server.py): no model is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from aisp_trace.cli.main import main as aisp_trace
from aisp_trace.kernels import emit, space
from aisp_trace.kernels.bench.gpu import has_gpu
from aisp_trace.kernels.build import arch_of
from aisp_trace.kernels.llm.session import load
from aisp_trace.kernels.task import Settings, Task
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.tests.builders.chat_server import KEY, says, serving

TASKS: Final = ("saxpy", "rmsnorm")

GAIN: Final = 1.1
"""The least that the default parameters have to gain over the slowest: less would be noise."""

SPIN: Final = "__global__ void spin(const volatile int* never) { while (*never == 0) {} }"
SPINNING: Final = """
    static int* never = nullptr;
    if (never == nullptr) cudaMalloc(&never, 4), cudaMemset(never, 0, 4);
    spin<<<1, 1, 0, stream>>>(never);"""
TAKING: Final = """
    static void* kept = nullptr;
    if (kept == nullptr) cudaMalloc(&kept, size_t{32} << 30);"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a session for each task."""
    parser = argparse.ArgumentParser(description="Sessions with scripted answers, measured.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where sessions.json goes; made if need be")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"default: {' '.join(TASKS)}")
    parser.add_argument("--dtype", default="bfloat16", help="element type, where a task has it")
    parser.add_argument("--seconds", type=float, default=480.0, help="the most that one session may take")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.tasks if name not in NAMES]:
        parser.error(f"no task is called {', '.join(unknown)}; tasks are {', '.join(NAMES)}")
    if not has_gpu():
        print("A GPU is needed and torch sees none here; nothing was measured.")
        return 3
    asked.folder.mkdir(parents=True, exist_ok=True)
    found, right = {}, True
    for name in asked.tasks or TASKS:
        found[name] = one = session(find(name), asked)
        (asked.folder / "sessions.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        right &= one["as_expected"]
        print(f"{name}: {'as expected' if one['as_expected'] else 'NOT AS EXPECTED'}, gain {one['gain']}", flush=True)
    return 0 if right else 1


def session(task: Task, asked: argparse.Namespace) -> dict[str, Any]:
    """One session, and whether it went as it must."""
    import torch

    slow, expected = slowest(task), dict(answers(task))
    dtype = asked.dtype if asked.dtype in task.dtypes else task.dtypes[0]
    artifacts = asked.folder / "artifacts"
    words = ["kernels", "emit", task.name, "--generator", "llm", "--run-untrusted", "--dtype", dtype]
    words += ["--arch", arch_of(torch.cuda.get_device_capability()), "--rounds", str(len(expected))]
    words += [
        "--budget",
        str(asked.seconds),
        "--artifacts",
        str(artifacts),
        "-o",
        str(asked.folder / f"{task.name}.cu"),
    ]
    words += ["--force", *(f"--set={name}={value}" for name, value in slow.items())]
    before = set(artifacts.glob(f"kernels/{task.name}/*/llm-*"))
    with serving(*(says(f"```cuda\n{source}\n```") for source in expected)) as server:
        os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "scripted"}
        code = aisp_trace(words)
    (folder,) = set(artifacts.glob(f"kernels/{task.name}/*/llm-*")) - before
    attempts = load(folder / "session.json").attempts
    outcomes = [one.outcome for one in attempts[1:]]
    gain = attempts[0].score_ns / attempts[-1].score_ns
    right = code == 0 and outcomes == list(expected.values()) and gain >= GAIN
    return {
        "as_expected": right,
        "gain": round(gain, 3) if gain == gain else None,  # infinite over infinite where nothing was verified
        "exit_code": code,
        "dtype": dtype,
        "attempts": [
            {**asdict(one), "expected": want} for one, want in zip(attempts, ["", *expected.values()], strict=False)
        ],
    }


def slowest(task: Task) -> dict[str, int | str]:
    """Narrow vectors, nothing unrolled and nothing kept, as far as the task has such parameters."""
    wanted: dict[str, int | str] = {"vector_bytes": 4, "keep": "none", "unroll": 1}
    made = space.defaults(task)
    for name, value in wanted.items():
        tried = {**made, name: value}
        if name in made and space.objection(task, tried) is None:
            made = tried
    return made


def answers(task: Task) -> list[tuple[str, str]]:
    """(what the server answers, what must become of it), in order."""
    good = frozen(emit.part_of(task, space.defaults(task)).text, space.defaults(task))
    head = f"{emit.signature(task)} {{"
    spin = f"{SPIN}\n{good}".replace(head, f"{head}\n{SPINNING}")
    greedy = good.replace(head, f"{head}\n{TAKING}")
    nothing = good.replace(head, f"{head}\n    if (stream != nullptr) return 0;")
    return [
        (good.replace(head, f"{head}\n    no such thing;"), "does not compile"),
        (nothing, "refused"),
        (spin, "refused"),
        (greedy, "refused"),
        (good, "verified"),
    ]


def frozen(part: str, settings: Settings) -> str:
    """`part` with the values of `settings`, in a frame whose constants are others."""
    for name, value in settings.items():
        part = re.sub(rf"\b{emit.constant(name)}\b", str(value), part) if isinstance(value, int) else part
    return part


if __name__ == "__main__":
    sys.exit(main())
