"""The compiled twins of `primitive` functions: single passes over sorted arrays.

What each means is said beside its plain twin (`traces/engine.py`); `tests/test_twins.py` compares the two. They
release the interpreter's lock. What they fill and what they need meanwhile is made by numpy, in a function beside the compiled
one: it asks for pages of 2 MiB, of which far fewer have to be made.

Arrays are C-contiguous and may be read-only. Times are int64 ns; kinds int8; positions int32.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
from numba import boolean, int8, int16, int32, int64, njit, uint32, void
from numba.types import Array

from ..traces.engine import jit
from .attribution.waiting import SHIFT

_NEVER = -(2**63)
"""Before every instant."""


def _column(dtype):
    return Array(dtype, 1, "C", readonly=True)


_T, _P, _U, _K = map(_column, (int64, int32, uint32, int8))
_OUT, _ROWS, _LANES, _BYTES, _MASK = int64[::1], int32[::1], int16[::1], int8[::1], boolean[::1]


@jit(int64(_T, _T))
def measure(start, end):
    total = np.int64(0)
    reach = np.int64(_NEVER)
    for i in range(len(start)):
        begin = max(start[i], reach)
        if end[i] > begin:
            total += end[i] - begin
            reach = end[i]
    return total


def cover(start, end):
    out = np.empty((2, _members(start, end)), np.int64)
    _cover(start, end, *out)
    return tuple(out)


@jit(int64(_T, _T))
def _members(start, end):
    n = 0
    reach = np.int64(_NEVER)
    for i in range(len(start)):
        if end[i] > start[i]:
            n += n == 0 or start[i] > reach
            reach = max(reach, end[i])
    return n


@jit(void(_T, _T, _OUT, _OUT))
def _cover(start, end, out_start, out_end):
    last = -1
    reach = np.int64(_NEVER)
    for i in range(len(start)):
        if end[i] > start[i]:
            if last < 0 or start[i] > reach:
                last += 1
                out_start[last] = start[i]
            reach = max(reach, end[i])
            out_end[last] = reach


def place_right(at, time):
    out = np.empty(len(time), np.int32)
    _place_right(np.ascontiguousarray(at, np.int64), np.ascontiguousarray(time, np.int64), out)
    return out


@jit(void(_T, _T, _ROWS))
def _place_right(at, time, out):
    n = len(at)
    i = 0
    for k in range(len(time)):
        t = time[k]
        budget = 12
        while budget > 0 and i < n and at[i] <= t:
            i += 1
            budget -= 1
        while budget > 0 and i > 0 and at[i - 1] > t:
            i -= 1
            budget -= 1
        if budget == 0:
            low, high = 0, n
            while low < high:
                middle = (low + high) >> 1
                if at[middle] <= t:
                    low = middle + 1
                else:
                    high = middle
            i = low
        out[k] = i


def grouped_measure(group, start, end, groups):
    out, reach = np.zeros(groups, np.int64), np.full(groups, _NEVER)
    _grouped_measure(group.astype(np.int32, copy=False), start, end, out, reach)
    return out


@jit(void(_P, _T, _T, _OUT, _OUT))
def _grouped_measure(group, start, end, out, reach):
    for i in range(len(start)):
        g = group[i]
        if g >= 0:
            s = max(start[i], reach[g])
            if end[i] > s:
                out[g] += end[i] - s
                reach[g] = end[i]


def overlaps(kind, start, end, side, own_of, other_of, groups, pair_a, pair_b, copy, compute, comm):
    """In one pass: what of a union lies behind the start of an op is, as long as only the ops up to it are known, one interval
    that begins there. So all that has to be kept of each union is how far it reaches."""
    own, other = np.zeros((2, groups), np.int64)
    reach = np.full((2, groups), _NEVER)
    shared = np.zeros(len(pair_a), np.int64)
    exposed = _overlaps(
        kind, start, end, side, own_of, other_of, pair_a, pair_b, copy, compute, comm, own, other, shared, *reach
    )
    return own, other, shared, exposed


@jit(int64(_K, _T, _T, _K, _P, _P, _P, _P, int64, int64, int64, _OUT, _OUT, _OUT, _OUT, _OUT))
def _overlaps(
    kind,
    start,
    end,
    side,
    own_of,
    other_of,
    pair_a,
    pair_b,
    copy,
    compute,
    comm,
    own,
    other,
    shared,
    own_reach,
    other_reach,
):
    groups = len(own)
    exposed = np.int64(0)
    moving = now = np.int64(_NEVER)  # no own group reaches further than `moving`
    for i in range(len(start) + 1):
        then = start[i] if i < len(start) else np.int64(2**63 - 1)
        if moving > now and then > now:
            for p in range(len(pair_a)):
                until = min(own_reach[pair_a[p]], other_reach[pair_b[p]], then)
                if until > now:
                    shared[p] += until - now
            begin, until = max(now, other_reach[compute], other_reach[comm]), min(own_reach[copy], then)
            if until > begin:
                exposed += until - begin
        now = then
        if i == len(start) or end[i] <= now:
            continue
        mask = own_of[kind[i]] if side[i] & 1 else 0
        for g in range(groups):
            if mask >> g & 1 and end[i] > own_reach[g]:
                own[g] += end[i] - max(now, own_reach[g])
                own_reach[g] = end[i]
                moving = max(moving, end[i])
        mask = other_of[kind[i]] if side[i] & 2 else 0
        for g in range(groups):
            if mask >> g & 1 and end[i] > other_reach[g]:
                other[g] += end[i] - max(now, other_reach[g])
                other_reach[g] = end[i]
    return exposed


def path_kinds(kind, node, start, end, nbytes, above_first, above, paths, kinds):
    count, total, size, union_ns = np.zeros((4, paths * (kinds + 1)), np.int64)
    reach = np.full(len(count), _NEVER)
    _path_kinds(kind, node, start, end, nbytes, above_first, above, paths, kinds, count, total, size, union_ns, reach)
    return count, total, union_ns, size


@jit(void(_K, _P, _T, _T, _T, _P, _P, int64, int64, _OUT, _OUT, _OUT, _OUT, _OUT))
def _path_kinds(kind, node, start, end, nbytes, above_first, above, paths, kinds, count, total, size, union_ns, reach):
    width = kinds + 1
    for i in range(len(start)):
        n = node[i]
        if n < 0:
            continue
        s, e, k = start[i], end[i], kind[i]
        for j in range(above_first[n], above_first[n + 1]):
            base = above[j] * width
            one = base + k
            count[one] += 1
            total[one] += e - s
            size[one] += nbytes[i]
            low = max(s, reach[one])
            if e > low:
                union_ns[one] += e - low
                reach[one] = e
            whole = base + kinds
            low = max(s, reach[whole])
            if e > low:
                union_ns[whole] += e - low
                reach[whole] = e
    for p in range(paths):
        for k in range(kinds):
            count[p * width + kinds] += count[p * width + k]
            total[p * width + kinds] += total[p * width + k]
            size[p * width + kinds] += size[p * width + k]


def project(stage, start, end, parent):
    count, own = np.zeros((2, len(parent)), np.int64)
    first, last = np.full(len(parent), 2**63 - 1), np.full(len(parent), _NEVER)
    stage, parent = (a.astype(np.int32, copy=False) for a in (stage, parent))
    _project(stage, start, end, parent, count, first, last, own)
    return count, first, last, own


@jit(void(_P, _T, _T, _P, _OUT, _OUT, _OUT, _OUT))
def _project(stage, start, end, parent, count, first, last, own):
    n = len(parent)
    for i in range(len(stage)):
        s = stage[i]
        if s >= 0:
            own[s] += 1
            first[s] = min(first[s], start[i])
            last[s] = max(last[s], end[i])
    for s in range(n):
        count[s] = own[s]
    for s in range(n - 1, -1, -1):
        p = parent[s]
        if p >= 0 and count[s] > 0:
            count[p] += count[s]
            first[p] = min(first[p], first[s])
            last[p] = max(last[p], last[s])


@njit(error_model="numpy")
def _position(pids, pid):
    """Where `pid` is among the few `pids`, else their number."""
    p = 0
    while p < len(pids) and pids[p] != pid:
        p += 1
    return p


def join(call_pid, call_correlation, op_pid, op_correlation, low, width, pids):
    table, out = np.full(width * len(pids), -1, np.int32), np.empty(len(op_pid), np.int32)
    repeats = _join(call_pid, call_correlation, op_pid, op_correlation, low, width, pids, table, out)
    return out, bool(repeats)


@jit(int64(_P, _U, _P, _U, int64, int64, _P, _ROWS, _ROWS))
def _join(call_pid, call_correlation, op_pid, op_correlation, low, width, pids, table, out):
    repeats = np.int64(0)
    p = 0
    for i in range(len(call_pid)):
        if pids[p] != call_pid[i]:
            p = _position(pids, call_pid[i])
        key = p * width + call_correlation[i] - low
        repeats |= np.int64(table[key] >= 0)
        table[key] = i
    p = 0
    for i in range(len(op_pid)):
        out[i] = -1
        c = op_correlation[i]
        if c <= 0 or c < low or c >= low + width:
            continue
        if pids[p] != op_pid[i]:
            found = _position(pids, op_pid[i])
            if found == len(pids):
                continue
            p = found
        out[i] = table[p * width + c - low]
    return repeats


_MOST_THREADS = 4_096
"""With more threads than this they are numbered by sorting."""


def threads(pid, tid):
    keys, recent, which = np.empty(_MOST_THREADS, np.int64), np.full(64, -1), np.empty(len(pid), np.int16)
    n = _threads(pid, tid, keys, recent, which)
    if n < 0:
        key = pid.astype(np.int64) << 32 | tid
        distinct, position = np.unique(key, return_inverse=True)
        return distinct, position.astype(np.int16 if len(distinct) < 2**15 else np.int32)
    order = np.argsort(keys[:n])
    return keys[order], np.argsort(order).astype(np.int16)[which]


@jit(int64(_P, _P, _OUT, _OUT, _LANES))
def _threads(pid, tid, keys, recent, which):
    """How many distinct keys there are, -1 if more than `keys` has room for."""
    most = len(keys)
    n = 0
    for i in range(len(pid)):
        key = np.int64(pid[i]) << 32 | np.int64(tid[i])
        slot = tid[i] & 63
        k = recent[slot]
        if k < 0 or keys[k] != key:
            k = 0
            while k < n and keys[k] != key:
                k += 1
            if k == n:
                if n == most:
                    return -1
                keys[n] = key
                n += 1
            recent[slot] = k
        which[i] = k
    return n


def grouped_rows(group, groups):
    group, first = group.astype(np.int32, copy=False), np.zeros(groups + 1, np.int64)
    _group_bounds(group, first)
    out = np.empty(first[-1], np.int32)
    _grouped_rows(group, first.copy(), out)
    return out, first


@jit(void(_P, _OUT))
def _group_bounds(group, first):
    for i in range(len(group)):
        if group[i] >= 0:
            first[group[i] + 1] += 1
    for g in range(len(first) - 1):
        first[g + 1] += first[g]


@jit(void(_P, _OUT, _ROWS))
def _grouped_rows(group, cursor, out):
    """A counting sort."""
    for i in range(len(group)):
        if group[i] >= 0:
            out[cursor[group[i]]] = i
            cursor[group[i]] += 1


def nesting(start, end):
    parent = np.full(len(start), -1)
    crossing = _nesting(start, end, parent, np.empty(len(start), np.int64))
    return parent, not crossing


@jit(int64(_T, _T, _OUT, _OUT))
def _nesting(start, end, parent, stack):
    """How many intervals cross another one."""
    top = 0
    crossing = 0
    for i in range(len(start)):
        solid = end[i] > start[i]
        while top > 0 and end[stack[top - 1]] <= start[i]:
            top -= 1
        if top > 0 and (end[i] <= end[stack[top - 1]] or not solid):
            parent[i] = stack[top - 1]
        elif top > 0:
            # It crosses the innermost open one: look further out, and drop what ended below it meanwhile.
            crossing += 1
            kept = 0
            for k in range(top):
                if end[stack[k]] > start[i]:
                    stack[kept] = stack[k]
                    kept += 1
            top = kept
            for k in range(top - 1, -1, -1):
                if end[stack[k]] >= end[i]:
                    parent[i] = stack[k]
                    break
        if solid:
            stack[top] = i
            top += 1
    return crossing


def innermost(start, end, value):
    at, out = np.empty(2 * len(start), np.int64), np.empty(2 * len(start), np.int32)
    n = _innermost(start, end, value.astype(np.int32, copy=False), at, out, np.empty(len(start), np.int32))
    return at[:n], out[:n].astype(value.dtype, copy=False)


@jit(int64(_T, _T, _P, _OUT, _ROWS, _ROWS))
def _innermost(start, end, value, at, out, stack):
    """How many steps were put into (`at`, `out`)."""
    top = 0
    n = 0
    for i in range(len(start) + 1):
        more = i < len(start)
        if more and end[i] <= start[i]:
            continue
        # Close what ends up to the next start, innermost first; what an inner one outlives is skipped.
        while top > 0 and (not more or end[stack[top - 1]] <= start[i]):
            t = end[stack[top - 1]]
            while top > 0 and end[stack[top - 1]] <= t:
                top -= 1
            v = value[stack[top - 1]] if top > 0 else np.int32(-1)
            if n > 0 and at[n - 1] == t:
                n -= 1
            if (n == 0 and v != -1) or (n > 0 and out[n - 1] != v):
                at[n], out[n] = t, v
                n += 1
        if more:
            stack[top] = i
            top += 1
            if n > 0 and at[n - 1] == start[i]:
                n -= 1
            if (n == 0 and value[i] != -1) or (n > 0 and out[n - 1] != value[i]):
                at[n], out[n] = start[i], value[i]
                n += 1
    return n


def host_pieces(start, end, codes, *steps):
    room = 2 * len(start) + 16
    first = np.empty(len(start), np.int8)
    while True:
        begin, stop = np.empty((2, room), np.int64)
        which, out_stage, out_iter = np.empty((3, room), np.int32)
        out_cause = np.empty(room, np.int8)
        n = _host_pieces(start, end, codes, *steps, which, begin, stop, out_stage, out_iter, out_cause, first)
        if n <= room:
            return which[:n], begin[:n], stop[:n], out_stage[:n], out_iter[:n], out_cause[:n], first
        room = n


@jit(int64(_T, _T, _P, _T, _K, _T, _P, _T, _P, _T, _P, _T, _P, _T, _P, _ROWS, _OUT, _OUT, _ROWS, _ROWS, _BYTES, _BYTES))
def _host_pieces(
    start, end, codes, call_at, call, stage_at, stage, prof_at, prof, driver_at, driver, iter_at, iteration, wait_at, wait,
    which, begin, stop, out_stage, out_iter, out_cause, first,
):  # fmt: skip
    """How many pieces there are, of which those that the outputs have room for are put there."""
    room = len(which)
    forever = np.int64(2**63 - 1)
    n = 0
    c = s = p = d = i = w = 0  # steps that lie not after the instant
    for g in range(len(start)):
        t = start[g]
        new = True
        while new or t < end[g]:
            while c < len(call_at) and call_at[c] <= t:
                c += 1
            while s < len(stage_at) and stage_at[s] <= t:
                s += 1
            while p < len(prof_at) and prof_at[p] <= t:
                p += 1
            while d < len(driver_at) and driver_at[d] <= t:
                d += 1
            while i < len(iter_at) and iter_at[i] <= t:
                i += 1
            while w < len(wait_at) and wait_at[w] <= t:
                w += 1
            cause = np.int32(call[c - 1]) if c > 0 else np.int32(-1)
            if cause == -1 or cause == codes[1]:
                if p > 0 and prof[p - 1] != -1:
                    cause = codes[2]
                elif d > 0 and driver[d - 1] != -1:
                    cause = codes[3]
                elif cause == -1:
                    cause = codes[4] if w > 0 and wait[w - 1] != -1 else codes[0]
            if new:
                first[g] = cause
                new = False
                if t >= end[g]:
                    break
            until = end[g]
            until = min(until, call_at[c] if c < len(call_at) else forever)
            until = min(until, stage_at[s] if s < len(stage_at) else forever)
            until = min(until, prof_at[p] if p < len(prof_at) else forever)
            until = min(until, driver_at[d] if d < len(driver_at) else forever)
            until = min(until, iter_at[i] if i < len(iter_at) else forever)
            until = min(until, wait_at[w] if w < len(wait_at) else forever)
            if n < room:
                which[n], begin[n], stop[n], out_cause[n] = g, t, until, cause
                out_stage[n] = stage[s - 1] if s > 0 else -1
                if cause == codes[4]:
                    out_stage[n] = wait[w - 1] - SHIFT
                out_iter[n] = iteration[i - 1] if i > 0 else -1
            n += 1
            t = until
    return n


def launch_waits(call, lane, start, end, call_end, lanes):
    delay, first = np.zeros(len(start), np.int64), np.zeros(len(start), bool)
    seen, reach = np.zeros(len(call_end), bool), np.full(lanes, _NEVER)
    call, lane = (a.astype(np.int32, copy=False) for a in (call, lane))
    _launch_waits(call, lane, start, end, call_end, delay, first, seen, reach)
    return delay, first


@jit(void(_P, _P, _T, _T, _T, _OUT, _MASK, _MASK, _OUT))
def _launch_waits(call, lane, start, end, call_end, delay, first, seen, reach):
    for i in range(len(start)):
        c, s = call[i], start[i]
        if c >= 0:
            first[i] = not seen[c]
            seen[c] = True
            delay[i] = max(s - max(call_end[c], reach[lane[i]]), 0)
        reach[lane[i]] = max(reach[lane[i]], end[i])


def levels(lane, start, end, lanes, most):
    out, busy, until = np.zeros(most + 1, np.int64), np.empty(lanes, np.int64), np.full(lanes, _NEVER)
    _levels(lane.astype(np.int32, copy=False), start, end, most, out, busy, until)
    return out


@jit(void(_P, _T, _T, int64, _OUT, _OUT, _OUT))
def _levels(lane, start, end, most, out, busy, until):
    """The first `active` of `busy` are the lanes that are busy at `now`, in no order."""
    active = 0
    now = np.int64(0)
    for i in range(len(start) + 1):
        more = i < len(start)
        if more and end[i] <= start[i]:
            continue
        # Let the lanes that end up to this start go, the earliest first.
        while active > 0:
            soonest = 0
            for k in range(1, active):
                if until[busy[k]] < until[busy[soonest]]:
                    soonest = k
            t = until[busy[soonest]]
            if more and t > start[i]:
                break
            out[min(active, most)] += t - now
            now = t
            active -= 1
            busy[soonest] = busy[active]
        if not more:
            break
        if active > 0:
            out[min(active, most)] += start[i] - now
        now = start[i]
        g = lane[i]
        if until[g] <= now:
            busy[active] = g
            active += 1
            until[g] = end[i]
        else:
            until[g] = max(until[g], end[i])


def own(kind, start, end, kinds):
    """Between the starts of two ops every kind covers one interval that begins at the first: the highest priority gets all of
    its own, each other one what the higher ones do not reach. Within a kind the op in turn gets it, then the next one that ends
    later."""
    used, ns = np.flatnonzero(np.bincount(kind, minlength=kinds)), np.zeros(len(start), np.int64)
    _own(kind, start, end, used, ns, np.full(kinds, _NEVER), np.zeros(kinds, np.int64))
    return ns


@jit(void(_K, _T, _T, _T, _OUT, _OUT, _OUT))
def _own(kind, start, end, order, ns, reach, turn):
    now = np.int64(_NEVER)
    for i in range(len(start) + 1):
        then = start[i] if i < len(start) else np.int64(2**63 - 1)
        if then > now:
            free = now  # up to here higher priorities own
            for k in order:
                until = min(reach[k], then)
                if until <= free:
                    continue
                op = turn[k]
                while True:
                    if end[op] > free:
                        stop = min(end[op], until)
                        ns[op] += stop - free
                        free = stop
                        if free == until:
                            break
                    limit = end[op]
                    op += 1
                    while kind[op] != k or end[op] <= limit:
                        op += 1
                turn[k] = op
                if free == then:
                    break
            now = then
        if i < len(start) and end[i] > now and end[i] > reach[kind[i]]:
            if reach[kind[i]] <= now:
                turn[kind[i]] = i
            reach[kind[i]] = end[i]


def replay(first, source, weight):
    time = np.empty(len(first) - 1, np.int64)
    _replay(first, source, weight, time)
    return time


@jit(void(_T, _P, _T, _OUT))
def _replay(first, source, weight, time):
    for node in range(len(time)):
        latest = np.int64(_NEVER)
        for edge in range(first[node], first[node + 1]):
            begun = time[source[edge]] if source[edge] >= 0 else np.int64(0)
            latest = max(latest, begun + weight[edge])
        time[node] = latest


def chain(first, source, weight, time, low, node):
    found = np.empty(len(first), np.int64)
    return found[: _chain(first, source, weight, time, low, node, found)].copy()


@jit(int64(_T, _P, _T, _T, int64, int64, _OUT))
def _chain(first, source, weight, time, low, node, found):
    n = 0
    while node >= 0 and time[node] > low:
        edge = first[node]
        while weight[edge] + (time[source[edge]] if source[edge] >= 0 else np.int64(0)) != time[node]:
            edge += 1
        found[n] = edge
        n += 1
        node = source[edge]
    return n
