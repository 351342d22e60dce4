"""What the model reads: the task and its rules, the best source so far with its profile, and what was wrong with the last one.

Each round's prompt is made anew of these, so that it does not grow with the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..emit import DIVIDER, constant, signature
from ..task import Operand, Settings, Task
from ..untrusted import HEADERS
from ..verify.plan import shape_text
from .result import Attempt

RULES: Final = """You write CUDA kernels. Answer with one fenced code block and nothing after it. It replaces the marked part of a file.

Rules:
- First the kernels, then the line `{divider}`, then `{signature}` and what it uses. All of it stands in an anonymous namespace.
- T is float, Half or BFloat. The file defines Half and BFloat (each {{ unsigned short bits; }}), widened(x) to float, narrowed<T>(f) from float, Pack<T, N> {{ T at[N]; }} with load_once<N>(pointer), load_cached<N>(pointer) and store(pointer, pack), start(kernel, blocks, threads, shared_bytes, stream, arguments...) which returns what launch_task has to, quotient_up(a, b), wide<N>(pointer) for whether N elements there are one aligned vector, and the constants below. Whatever else the marked part uses, it defines.
- launch_task enqueues on `stream` only. It returns 0, a cudaError_t, or -2 for a size it cannot handle. It allocates nothing, does not synchronise, keeps no state between calls, and copies nothing from or to the host.
- Handle every size from 1 up and every pointer aligned to its element. Write the whole of the outputs and nothing else; read nothing but the inputs.
- Be deterministic: equal inputs give equal bits, so no floating-point atomics.
- Accumulate in float. Stay within the tolerance of a double-precision reference, for large, tiny and special values (NaN, infinity) too.
- No libraries, no CUDA graphs, no other streams. The only headers allowed: {headers}. The only directives allowed: #define, #undef, #if and its kin, #include, #pragma unroll.
- It has to compile with `nvcc -O3 -std=c++17 -arch={arch} -Werror all-warnings`; an unused function is a warning.

Your code is compiled, run at many shapes on fresh inputs between guard bands, compared with double precision, and timed from a GPU trace. The fastest kernel that passes wins."""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked for: the task on an architecture, for an element type, at the shapes that are timed."""

    task: Task
    dtype: str
    arch: str
    shapes: Sequence[dict[str, int]]
    settings: Settings


def messages(subject: Subject, best: Attempt, source: str, last: Attempt | None, rejected: str) -> list[dict[str, str]]:
    """The prompt: `source` is the part of the `best` attempt, `rejected` that of the `last` one, where that is another."""
    task = subject.task
    rules = RULES.format(
        divider=DIVIDER, signature=signature(task), headers=", ".join(sorted(HEADERS)), arch=subject.arch
    )
    parts = [_task(subject), _best(best, source)]
    if last is not None and last.number != best.number:
        parts.append(_last(last, rejected))
    parts.append("Write a faster one.")
    return [{"role": "system", "content": rules}, {"role": "user", "content": "\n\n".join(parts)}]


def _task(subject: Subject) -> str:
    task, dtype = subject.task, subject.dtype
    tolerance = task.tolerances[dtype]
    lines = [
        f"Task {task.name}: {task.title}.",
        *(f"input {_operand(one)}" for one in task.inputs),
        *(f"output {_operand(one)}" for one in task.outputs),
        *(f"constant k{name.capitalize()} = {value:.9g}f" for name, value in task.scalars.items()),
        *(f"constant {constant(name)} = {value}" for name, value in subject.settings.items() if isinstance(value, int)),
        f"Timed for {dtype}. Largest relative error allowed: {tolerance.worst:.3g} ({tolerance.reason}).",
    ]
    for shape in subject.shapes:
        nbytes, flops = task.bytes(shape, dtype), task.flops(shape, dtype)
        lines.append(f"Timed shape {shape_text(shape)}: at least {nbytes:,} bytes through memory, {flops:,} FLOPs.")
    return "\n".join(lines)


def _operand(one: Operand) -> str:
    kind = "T" if one.dtype == "element" else one.dtype
    return f"{one.name} {kind}[{', '.join(map(str, one.dims))}]" + (f" in [0, {one.below})" if one.below else "")


def _best(best: Attempt, source: str) -> str:
    what = "The marked part today" if best.number == 0 else f"The best so far, your attempt {best.number}"
    return "\n".join([f"{what}:", *_told(best), "```cuda", source.strip("\n"), "```"])


def _last(last: Attempt, rejected: str) -> str:
    lines = [f"Your last answer, attempt {last.number}: {last.outcome}.", *_told(last)]
    if rejected:
        lines += ["It was:", "```cuda", rejected.strip("\n"), "```"]
    return "\n".join(lines)


def _told(attempt: Attempt) -> list[str]:
    return [line for line in attempt.told if line] or ["(not measured)"]
