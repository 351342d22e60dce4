"""Which calls a candidate gets: what is known beforehand of each. Seeds are drawn when a call begins.

rehearsal            the harness alone, with the timed shapes: how many kernels it launches itself
the candidate loads
before               small, odd and secret shapes; edge, special and wide values; unaligned memory, views, twins; shuffled
timed                fresh values each time, at a cold L2
after                the timed shape and some of the earlier ones once more, shuffled
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..task import Shape, Task

CALLS: Final = 20
"""Timed calls of each shape: enough for a median that one disturbed call does not move."""

SMALL_BYTES: Final = 4 << 20
"""Required bytes up to which a shape is checked with every kind of values and memory."""

CPU_BYTES: Final = 1 << 20
"""The same on a processor, and the most that is timed there."""

SECRET_SHAPES: Final = 2
"""Shapes that are drawn anew in each verification, so that no candidate can know them all."""

ALIGNED: Final = "aligned"
UNALIGNED: Final = "unaligned"
VIEWS: Final = "views"
"""Where operands lie: at multiples of 256 bytes, one element beside one, or as every second element of a larger tensor."""

KINDS: Final = ("edge", "special", "wide")
"""Kinds of values beside "random" (`Task.draw`)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `same` names another call of the phase whose values are used again; `twin`: a few of them are then changed."""

    phase: str
    shape: Shape
    kind: str = "random"
    place: str = ALIGNED
    timed: bool = False
    same: str = ""
    twin: bool = False
    always: bool = False
    """Whether the outputs are kept in any case; else a coin decides after the call."""

    def __str__(self) -> str:
        how = [self.kind, *([self.place] if self.place != ALIGNED else []), *(["twin"] if self.twin else [])]
        return f"{shape_text(self.shape)} {' '.join(how)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls of one process, in order."""

    rehearsals: Sequence[Call]
    calls: Sequence[Call]
    shapes: Sequence[Shape] = field(default=())
    """Those that are timed."""


def shape_text(shape: Shape) -> str:
    """``rows=8192,columns=8192``, as --shape takes it."""
    return ",".join(f"{name}={size}" for name, size in shape.items())


def make_plan(
    task: Task, dtype: str, device: str, shapes: Sequence[Shape], calls: int, views: bool, chance: random.Random
) -> Plan:
    """The plan of one verification; `shapes` are timed, or the task's first (on a processor its largest small one)."""
    limit = SMALL_BYTES if device == "cuda" else CPU_BYTES
    small = [shape for shape in task.shapes if task.bytes(shape, dtype) <= limit] or [
        min(task.shapes, key=lambda shape: task.bytes(shape, dtype))
    ]
    timed = list(shapes) or [
        task.shapes[0] if device == "cuda" else max(small, key=lambda shape: task.bytes(shape, dtype))
    ]
    secret = list(_secret_shapes(task, dtype, small, limit, chance))
    first, *others = sorted(small, key=lambda shape: task.bytes(shape, dtype), reverse=True)
    before = [Call("before", shape, always=True) for shape in (*small, *secret)]
    before += [Call("before", shape, always=shape not in timed[1:]) for shape in timed]
    before += [Call("before", chance.choice(small), kind, always=True) for kind in KINDS]
    before += [Call("before", shape, place=UNALIGNED, always=True) for shape in (first, *others[:1])]
    before += [Call("before", first, place=VIEWS, always=True)] if views else []
    chance.shuffle(before)
    before += _twice("before", first, "a")
    many = [Call("timed", shape, timed=True) for shape in timed for _ in range(calls)]
    after = [Call("after", shape, always=True) for shape in (*timed, first, chance.choice(small))]
    after += [Call("after", chance.choice(small), place=UNALIGNED, always=True)]
    chance.shuffle(after)
    after += _twice("after", chance.choice(small), "b")
    rehearsals = [Call("rehearsal", shape, timed=True) for shape in timed for _ in range(2)]
    return Plan(rehearsals, [*before, *many, *after], timed)


def small_plan(task: Task, dtype: str, chance: random.Random) -> Plan:
    """Three calls of a small odd shape, for tools under which everything is slow."""
    shapes = sorted(task.shapes, key=lambda shape: task.bytes(shape, dtype))
    odd = [shape for shape in shapes if any(size % 2 and size > 1 for size in shape.values())] or shapes
    return Plan(
        (), [Call("sanitizer", odd[0]), Call("sanitizer", odd[min(1, len(odd) - 1)]), Call("sanitizer", odd[0])]
    )


def _twice(phase: str, shape: Shape, name: str) -> list[Call]:
    """The same values twice, each time in other memory, and once more with a few of them changed."""
    return [
        Call(phase, shape, always=True, same=name),
        Call(phase, shape, always=True, same=name),
        Call(phase, shape, always=True, same=name, twin=True),
    ]


def _secret_shapes(
    task: Task, dtype: str, small: Sequence[Shape], limit: int, chance: random.Random
) -> Iterator[dict[str, int]]:
    """Shapes between the task's small ones, of which the task's own PyTorch code agrees with its reference."""
    most = {name: max(shape[name] for shape in small) for name in task.sizes}
    found = 0
    for _ in range(20 * SECRET_SHAPES):
        base = dict(chance.choice(small))
        for name in chance.sample(task.sizes, chance.randint(1, len(task.sizes))):
            base[name] = chance.randint(1, max(2 * most[name], 8))
        if base not in map(dict, task.shapes) and task.bytes(base, dtype) <= limit and _makes_sense(task, base, dtype):
            found += 1
            yield base
        if found == SECRET_SHAPES:
            return


def _makes_sense(task: Task, shape: Shape, dtype: str) -> bool:
    import torch

    from .errors import compare

    device: Any = torch.device("cpu")
    try:
        inputs = task.draw(torch.Generator().manual_seed(1), shape, dtype, device)
        expected, given = task.reference(inputs, shape), task.eager(inputs, shape, dtype)
    except (RuntimeError, ValueError, IndexError, KeyError, AssertionError, ZeroDivisionError):
        return False
    return all(compare(given[name], expected[name], task.tolerances[dtype]).ok for name in expected)
