"""What the model is told: the task and its rules, the best source so far with its profile, and what was wrong with the last one.

Each round's prompt is made anew of these, so that it does not grow with the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..emit import DIVIDER, signature
from ..task import Operand, Task
from ..untrusted import HEADERS
from ..verify.plan import shape_text
from .result import Attempt

RULES: Final = """You write CUDA kernels. Answer with one fenced code block, and nothing after it. The block replaces the marked part of a file.

Rules:
- It has the kernels, then the line `{divider}`, then `{signature}` and what that uses. All of it stands in an anonymous namespace.
- T is float, Half or BFloat. Half and BFloat are the file's own: {{ unsigned short bits; }}. Also there: widened(x) to float, narrowed<T>(f) from float, Pack<T, N> with load_once, load_cached and store, start(kernel, blocks, threads, shared_bytes, stream, arguments...) which returns what launch_task returns, quotient_up(a, b), whole(pointer), wide<N>(pointer), and the constants k... of the parameters.
- launch_task enqueues on `stream` alone and returns 0, a cudaError_t, or -2 for sizes that it cannot do. It allocates nothing, waits for nothing, keeps nothing from one call to the next and copies nothing from or to the host.
- Every size of 1 or more is right, and every pointer that is aligned to its element. Inputs are not written, nothing beside the outputs is written, nothing beside the inputs is read.
- The same inputs give the same bits: no atomic additions of floating-point numbers in any order.
- Sums are in float. The error against double precision stays within the tolerance, for large, tiny and special numbers (NaN, infinity) too.
- No library, no graph, no other stream. Headers, if any: {headers}. No other directives than #define, #if and their like, #include, #pragma unroll.
- It compiles with `nvcc -O3 -std=c++17 -arch={arch} -Werror all-warnings`; a function that is not used is a warning.

It is compiled, run in many shapes on fresh inputs with guard bands, compared with double precision, and timed by a recording of the GPU. The time of the kernels decides."""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked for: the task on an architecture, for an element type, at the shapes that are timed."""

    task: Task
    dtype: str
    arch: str
    shapes: Sequence[dict[str, int]]


def messages(subject: Subject, best: Attempt, source: str, last: Attempt | None, rejected: str) -> list[dict[str, str]]:
    """The prompt: `source` is the part of the `best` attempt, `rejected` that of the `last` one, where that is another."""
    task = subject.task
    rules = RULES.format(
        divider=DIVIDER, signature=signature(task), headers=", ".join(sorted(HEADERS)), arch=subject.arch
    )
    parts = [_task(subject), _best(best, source)]
    if last is not None and last.number != best.number:
        parts.append(_last(last, rejected))
    parts.append("Write a faster one." if last is None or not rejected else "Write a right one that is faster.")
    return [{"role": "system", "content": rules}, {"role": "user", "content": "\n\n".join(parts)}]


def _task(subject: Subject) -> str:
    task, dtype = subject.task, subject.dtype
    tolerance = task.tolerances[dtype]
    lines = [
        f"Task {task.name}: {task.title}.",
        *(f"input {_operand(one)}" for one in task.inputs),
        *(f"output {_operand(one)}" for one in task.outputs),
        *(f"constant k{name.capitalize()} = {value:.9g}f" for name, value in task.scalars.items()),
        f"Element type that is timed: {dtype}. The largest relative error may be {tolerance.worst:.3g} ({tolerance.reason}).",
    ]
    for shape in subject.shapes:
        nbytes, flops = task.bytes(shape, dtype), task.flops(shape, dtype)
        lines.append(
            f"Timed shape {shape_text(shape)}: {nbytes:,} bytes through memory at least, {flops:,} operations."
        )
    return "\n".join(lines)


def _operand(one: Operand) -> str:
    kind = "T" if one.dtype == "element" else one.dtype
    return f"{one.name} {kind}[{', '.join(map(str, one.dims))}]" + (f" in [0, {one.below})" if one.below else "")


def _best(best: Attempt, source: str) -> str:
    what = (
        "The part of the template, which you replace"
        if best.number == 0
        else f"The best so far, your attempt {best.number}"
    )
    return "\n".join([f"{what}:", *_told(best), "```cuda", source.strip("\n"), "```"])


def _last(last: Attempt, rejected: str) -> str:
    lines = [f"Your last answer, attempt {last.number}: {last.outcome}.", *_told(last)]
    if rejected:
        lines += ["It was:", "```cuda", rejected.strip("\n"), "```"]
    return "\n".join(lines)


def _told(attempt: Attempt) -> list[str]:
    return [line for line in attempt.told if line] or ["(not measured)"]
