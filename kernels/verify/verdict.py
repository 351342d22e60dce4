"""From everything that was seen to one verdict.

refused        one reason is enough; the first of `REASONS` is the headline
cannot tell    nothing speaks against the candidate, but no recording says how long it took, or what it did
verified       every output right, and the recording shows its own kernels doing the work inside its calls
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...traces.errors import RecorderError
from ..task import Task
from .errors import Compared, compare, trusted_elements
from .evidence import Asked, Candidate, Heard, Sanitized, Spoken
from .inputs import drawn
from .judge import Facts, Judged, Rules, judge
from .physics import Peak, peak_of_device
from .plan import UNALIGNED, VIEWS, Call, Plan, shape_text
from .recording import read_recording
from .result import CANNOT_TELL, REASONS, REFUSED, VERIFIED, Check, Reason, Timing, Verification, WorstCase

NOTE = "note"


@dataclass(frozen=True, slots=True)
class Common:
    """What every verdict of one verification says."""

    asked: Asked
    task: Task
    dtype: str
    device: str
    digest: str
    made_with: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One output of one call against its reference; `compared` is null where its bytes were not what was asked for."""

    call: Call
    output: str
    compared: Compared | None


def compare_all(spoken: Sequence[Spoken], task: Task, dtype: str, device: str) -> list[Outcome]:
    """Every output that was kept, against float64 of inputs that are drawn again here. Bytes are compared by `same_bits`."""
    import torch

    found: list[Outcome] = []
    with torch.no_grad():
        for one in spoken:
            if not one.files:
                continue
            place: Any = torch.device(device)
            inputs = drawn(task, one.order, dtype, place)
            expected = task.reference(inputs, one.call.shape)
            trusted = None
            tolerance = task.tolerances[dtype]
            if one.call.kind != "random":
                eager = task.eager(inputs, one.call.shape, dtype)
                trusted = {name: trusted_elements(eager[name], expected[name], tolerance) for name in expected}
            for output in task.outputs:
                kept = _read(
                    one.files[output.name], getattr(torch, output.dtype_in(dtype)), expected[output.name].shape
                )
                mask = None if trusted is None else trusted[output.name]
                compared = None if kept is None else compare(kept.to(place), expected[output.name], tolerance, mask)
                found.append(Outcome(one.call, output.name, compared))
    return found


def _read(file: Path, dtype: Any, shape: Sequence[int]) -> Any:
    """The tensor whose bytes are in `file`; null where there are not just as many."""
    import torch

    try:
        data = bytearray(file.read_bytes())
    except OSError:
        return None
    if len(data) != math.prod(shape) * dtype.itemsize:
        return None
    return torch.frombuffer(data, dtype=dtype).view(tuple(shape)) if data else torch.empty(tuple(shape), dtype=dtype)


def refused_at_once(common: Common, reason: Reason) -> Verification:
    """The verdict on a candidate that nothing could be tried with."""
    return _verification(common, REFUSED, [reason], None, (), (), (), [], 0, 0, None, [])


def reach(
    common: Common,
    plan: Plan,
    heard: Heard,
    outcomes: Sequence[Outcome],
    recording: Path | None,
    unrecorded: str,
    candidate: Candidate,
    sanitized: Sequence[Sanitized],
) -> Verification:
    """The verdict."""
    reasons = list(_reasons(heard, outcomes))
    peak = peak_of_device(Path.cwd()) if common.device == "cuda" else None
    judged = _judged(common, heard, recording, candidate, peak)
    if judged is not None:
        reasons += judged.reasons
        unrecorded = judged.unknown or ("" if judged.timings or heard.failure else "no timed call was made")
    reasons += [Reason("sanitizer", f"{one.tool}: {one.said}") for one in sanitized if one.clean is False]
    told = _ordered(reasons)
    timings = judged.timings if judged is not None and not judged.unknown else _by_events(heard, common)
    status = REFUSED if told else CANNOT_TELL if unrecorded or judged is None else VERIFIED
    notes = [f"{one.text} ({one.calls} calls)" for one in _merged(_said(heard)) if one.code == NOTE]
    if unrecorded:
        notes.append(unrecorded)
    candidates_own = {"own_kernels": sorted(candidate.own)} if candidate.own is not None else {}
    made = {**common.made_with, **({"nvcc": candidate.compiler} if candidate.compiler else {})}
    worst = _worst(outcomes, common)
    checks = list(_checks(heard, plan, judged, sanitized, common, unrecorded))
    rows = judged.kernels if judged is not None else ()
    found = _verification(
        common, status, told, worst, timings, rows, checks, notes, len(heard.spoken), len(outcomes), peak, unrecorded,
        made, candidates_own,
    )  # fmt: skip
    return replace(found, shapes=sorted({shape_text(one.call.shape) for one in outcomes}))


def _verification(
    common: Common,
    status: str,
    reasons: Sequence[Reason],
    worst: WorstCase | None,
    timings: Sequence[Timing],
    rows: Sequence[Any],
    checks: Sequence[Check],
    notes: Sequence[str],
    calls: int,
    compared: int,
    peak: Peak | None,
    unrecorded: str | list[str],
    made: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Verification:
    why = REASONS[reasons[0].code] if reasons else ""
    if status == CANNOT_TELL:
        why = f"nothing was recorded on a device ({unrecorded})" if unrecorded else "nothing was recorded on a device"
    return Verification(
        status=status,
        why=why,
        reasons=reasons,
        candidate={
            "file": common.asked.file.name,
            "sha256": common.digest,
            "language": "CUDA" if common.asked.file.suffix == ".cu" else "Python",
            "own_kernels": (more or {}).get("own_kernels"),
        },
        task=common.task.name,
        dtype=common.dtype,
        device=str(common.made_with.get("gpu") or common.device),
        worst=worst,
        timings=timings,
        kernels=rows,
        checks=checks,
        calls=calls,
        compared=compared,
        peak=None
        if peak is None
        else {"bytes_per_s": peak.bytes_per_s, "source": peak.source, "cache_bytes": peak.cache_bytes},
        made_with=made or common.made_with,
        notes=notes,
    )


# -- reasons -----------------------------------------------------------------------------------------------------------


def _reasons(heard: Heard, outcomes: Sequence[Outcome]) -> Iterator[Reason]:
    if heard.failure is not None:
        yield heard.failure
    yield from (one for one in _said(heard) if one.code != NOTE)
    for one in outcomes:
        if one.compared is None:
            yield Reason("wrong", f"{one.output} was not kept with the bytes it should have, at {one.call}")
        elif not one.compared.ok:
            yield Reason("wrong", f"{one.output} at {one.call}: {_how_wrong(one.compared)}")
    yield from _different_bits(heard)


def _said(heard: Heard) -> Iterator[Reason]:
    """The child's objections; one of a code that does not exist is the candidate's doing, or a bug."""
    everything = list(heard.objections)
    for spoken in heard.spoken:
        found = spoken.answer.get("objections")
        for one in found if isinstance(found, list) else []:
            if isinstance(one, list) and len(one) == 2:
                everything.append(Reason(str(one[0]), str(one[1])))
    for reason in everything:
        yield reason if reason.code in REASONS or reason.code == NOTE else Reason("talked", reason.text)


def _different_bits(heard: Heard) -> Iterator[Reason]:
    """Calls with the same inputs whose outputs are not the same, bit by bit."""
    groups: dict[tuple[str, str], list[Spoken]] = defaultdict(list)
    for one in heard.spoken:
        if one.call.same and not one.call.twin and one.files:
            groups[one.call.phase, one.call.same].append(one)
    for found in groups.values():
        first, *others = found
        for other in others:
            for name, file in first.files.items():
                if _contents(file) != _contents(other.files[name]):
                    yield Reason(
                        "nondeterministic", f"{name} at {first.call}: the same inputs twice gave different bits"
                    )


def _contents(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _ordered(reasons: Sequence[Reason]) -> list[Reason]:
    order = {code: number for number, code in enumerate(REASONS)}
    return sorted(_merged(reasons), key=lambda one: order[one.code])


def _merged(reasons: Iterator[Reason] | Sequence[Reason]) -> list[Reason]:
    """One of each sentence, with how many calls show it."""
    count: Counter[tuple[str, str]] = Counter()
    for one in reasons:
        count[one.code, one.text] += one.calls
    return [Reason(code, text, calls) for (code, text), calls in count.items()]


def _how_wrong(found: Compared) -> str:
    at = ", ".join(map(str, found.at))
    where = f"element [{at}] is {found.found:.6g}, where {found.expected:.6g} is right"
    if found.norm is None or found.worst is None:
        return where
    return f"error {found.norm:.3g}, worst element {found.worst:.3g}, {found.share:.3g} times what is allowed; {where}"


def _worst(outcomes: Sequence[Outcome], common: Common) -> WorstCase | None:
    known = [one for one in outcomes if one.compared is not None]
    if not known:
        return None
    worst = max(known, key=lambda one: one.compared.share if one.compared else 0.0)
    found, tolerance = worst.compared, common.task.tolerances[common.dtype]
    assert found is not None
    return WorstCase(
        output=worst.output,
        shape=shape_text(worst.call.shape),
        kind=worst.call.kind,
        place=worst.call.place,
        norm=found.norm,
        norm_allowed=tolerance.norm,
        worst=found.worst,
        worst_allowed=tolerance.worst,
        element=found.at,
        found=found.found,
        expected=found.expected,
    )


# -- the recording -----------------------------------------------------------------------------------------------------


def _judged(
    common: Common, heard: Heard, recording: Path | None, candidate: Candidate, peak: Peak | None
) -> Judged | None:
    if recording is None or not recording.is_file():
        return None
    facts = [
        Facts(
            token=one.token,
            shape=shape_text(one.call.shape),
            timed=one.call.timed,
            event_ns=_whole(one.answer.get("event_ns")),
            nbytes=common.task.bytes(one.call.shape, common.dtype),
            raised=bool(one.answer.get("raised")),
        )
        for one in heard.spoken
    ]
    try:
        read = read_recording(recording)
    except RecorderError as exc:
        return Judged((), str(exc), (), (), {})
    return judge(read, facts, Rules(candidate.own, common.asked.allow_library, peak))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _by_events(heard: Heard, common: Common) -> list[Timing]:
    """What the child's own clock said, where there is no trace."""
    by_shape: dict[str, list[int]] = defaultdict(list)
    nbytes: dict[str, int] = {}
    for one in heard.spoken:
        event = _whole(one.answer.get("event_ns"))
        if one.call.timed and event is not None:
            shape = shape_text(one.call.shape)
            by_shape[shape].append(event)
            nbytes[shape] = common.task.bytes(one.call.shape, common.dtype)
    return [
        Timing(shape, len(times), None, None, None, None, statistics.median(times), None, nbytes[shape], None, None)
        for shape, times in by_shape.items()
    ]


# -- what was looked at ------------------------------------------------------------------------------------------------


def _checks(
    heard: Heard,
    plan: Plan,
    judged: Judged | None,
    sanitized: Sequence[Sanitized],
    common: Common,
    unrecorded: str,
) -> Iterator[Check]:
    """What was checked and what was not, in the reader's words."""
    kept = [one for one in heard.spoken if one.files]
    shapes = len({shape_text(one.call.shape) for one in kept})
    yield Check("outputs against float64", bool(kept), f"{len(kept)} of {len(heard.spoken)} calls, {shapes} shapes")
    kinds = sorted({one.call.kind for one in kept})
    yield Check("kinds of values", bool(kinds), ", ".join(kinds) or "none")
    yield Check("fresh inputs", bool(heard.spoken), "drawn from a secret seed before each call")
    memory = "guard bands, poisoned outputs, inputs compared after each call"
    yield Check("memory", bool(heard.spoken), memory)
    unaligned = sum(one.call.place == UNALIGNED for one in kept)
    yield Check("unaligned pointers", bool(unaligned), f"{unaligned} calls, one element beside a multiple of 256 bytes")
    views = [one for one in heard.spoken if one.call.place == VIEWS]
    if common.asked.file.suffix == ".cu":
        yield Check("views", False, "the C interface takes contiguous tensors alone")
    else:
        refused = sum(bool(one.answer.get("raised")) for one in views)
        yield Check("views", bool(views), f"{refused} refused, {len(views) - refused} computed")
    twice = sum(bool(one.call.same) and not one.call.twin for one in kept)
    yield Check("determinism", twice > 1, f"{twice // 2} pairs of calls with the same inputs in other memory")
    after = sum(one.call.phase == "after" for one in heard.spoken)
    yield Check("a second check after the timing", bool(after), f"{after} calls")
    yield Check("the process", heard.finished, "hooks, functions, modules, environment, threads after each call")
    recorded = judged is not None and not judged.unknown
    yield Check(
        "the trace",
        recorded,
        "kernels, streams, launches of others, work between calls" if recorded else unrecorded or "no recording",
    )
    floor = recorded and any(one.floor_ns for one in (judged.timings if judged else ()))
    yield Check("physics floor", floor, "required bytes at the memory's peak" if floor else _no_floor(recorded))
    for one in sanitized:
        yield Check(f"compute-sanitizer {one.tool}", one.clean is not None, one.said)
    if not sanitized:
        why = (
            "nothing runs on a device" if common.device == "cpu" else "not installed, not asked for, or nothing to run"
        )
        yield Check("compute-sanitizer", False, why)
    yield Check("native code that rewrites the harness in memory", False, "cannot be contained in one address space")


def _no_floor(recorded: bool) -> str:
    return "the timed shapes fit into the L2 cache" if recorded else "no recording"
