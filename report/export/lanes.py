"""Which row a slice is drawn in, and the order in which its start and end are written.

A viewer keeps a stack for each track: an end closes whatever was opened last. So the slices of one track must nest, or,
where nesting would say something false (two kernels of one stream that overlap), must not touch each other at all:

    a   |-------|                 nest: a and b cross, so b goes to the second lane; c fits into the first again
    b       |-------|             lane 0   |a......|  |c|
    c              |-|            lane 1       |b......|
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...analyze.intervals import Ints

OPEN: int = np.iinfo(np.int64).max
"""End of a slice that was still open when the recording stopped; it gets no end event."""


def order(start: Ints, end: Ints) -> npt.NDArray[np.intp]:
    """The order in which `lanes` wants intervals: by start, then the longest first."""
    return np.lexsort((-end, start))


def lanes(start: Ints, end: Ints, *, nest: bool) -> list[Ints]:
    """Events of each lane: i where interval i begins, ~i where it ends, in an order that a stack can follow.

    Intervals are sorted as `order` says, and ``end >= start``; empty ones are kept. An interval goes to the first lane
    in which it lies inside the innermost open one, or after all of them. Without `nest` it must lie after all of them.
    """
    n = len(start)
    if n == 0:
        return []
    if (start[1:] >= end[:-1]).all():
        events = np.empty(2 * n, np.int64)
        events[0::2] = np.arange(n)
        events[1::2] = ~np.arange(n)
        return [events[:-1] if end[-1] == OPEN else events]
    ends = end.tolist()
    stacks: list[list[int]] = []
    written: list[list[int]] = []
    for i, (s, e) in enumerate(zip(start.tolist(), ends, strict=True)):
        for stack, out in zip(stacks, written, strict=True):
            while stack and ends[stack[-1]] <= s:
                out.append(~stack.pop())
            if not stack or (nest and e <= ends[stack[-1]]):
                break
        else:
            stack, out = [], []
            stacks.append(stack)
            written.append(out)
        stack.append(i)
        out.append(i)
    for stack, out in zip(stacks, written, strict=True):
        out.extend(~i for i in reversed(stack) if ends[i] != OPEN)
    return [np.array(out, np.int64) for out in written]
