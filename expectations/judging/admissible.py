"""Whether a run is one run, before it is judged: every fact of its manifest is equal, explained or an objection.

    examine(evidence) -> findings        the run's own, asked once
    admit(verdicts, claim, evidence, findings) -> verdicts

`docs/verdicts.md` has the table: a row for each of `ROWS`, and tests/test_admissible.py a broken run for each row. A finding is

    named       differs by design (a newer driver, a tree that is changed in every process): said, and blocks nothing
    objection   what holds is inconclusive: the processes are not of one program, machine or occasion, or not of the plan
    invalid     what holds is invalid: the work is wrong or missing

A miss stays a miss, whatever else is wrong: whoever wants to be rid of one captures again. What a manifest does not say is no
objection, since older ones know less. Pure: asks the manifest and the analyses, and opens nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import median
from typing import Any, Final

from ...analyze.result import Analysis
from ...traces.run import Manifest, ProcessResult, Variant, VariantResult
from ..metrics.registry import METRICS, greatest
from ..model import Claim, TimeClaim
from .commands import PAIR
from .evidence import COMMAND, Evidence, Recorded, VariantEvidence
from .physics import too_fast
from .starts import LEAST_FRACTION, OCCASION, SURE, between_starts
from .untimed import moved_out
from .verdict import Verdict

NAMED, OBJECTION, INVALID = "named", "objection", "invalid"

OCCASION_GAP: Final = timedelta(days=1)
"""Rounds further apart are of several occasions: a driver, a clock or a neighbour may have changed between them."""

TRACE_SHARE: Final = 0.2
TRACE_SLACK_NS: Final = 200_000
"""How far an iteration in the trace may be from what its process timed: a fifth of the median, and what a range, an event and a
synchronisation cost. On H200 the two differed by at most 0.15 ms, and by 3 % (samples of three workloads)."""

RECORDED_FACTOR: Final = 10.0
"""Recording costs up to twice the time of the smallest iterations seen; at ten times another program was recorded."""

SPAN_SLACK: Final = 0.01
"""GPU events and the host's clock, which time iterations and their span, may differ by this fraction."""

DRAWN_SHARE: Final = 0.5
DRAWN_OF_ALL: Final = 0.01
"""Of the input bytes that a problem states, and where it states none of all its bytes, that iterations draw anew at least."""

IDLE_SHARE: Final = 0.01
"""A command a hundred times faster than the baseline, start-up included, has most likely done nothing, or failed quietly."""

IDLE_PROGRAMS: Final = frozenset({"echo", "true", "false", ":", "printf", "exit", "test", "pwd", "cd"})
SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh"})

FACTS: Final[Mapping[str, Mapping[str, str]]] = {
    "device": {"device_name": "the device", "device_uuid": "the device's identity", "processor": "the processor"},
    "versions": {"python": "the version of Python", "torch": "the version of torch", "cuda": "torch's CUDA version"},
    "settings": {"host_threads": "the number of host threads", "freed_host_memory": "freed host memory"},
}
"""Facts that a workload's process answers, by row, in words. All processes of a run agree on each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one row found: a sentence without its full stop, how grave it is, and the variants it is about (empty: all)."""

    grade: str
    text: str
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a run. `index` is its round, null for a recording; `times_ns` are each variant's iterations."""

    where: str
    index: int | None
    variants: tuple[str, ...]
    command: tuple[str, ...]
    exit_code: int
    wall_ns: int
    started_utc: str
    sources: tuple[str | None, str | None]
    times_ns: Mapping[str, Sequence[int]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def examine(evidence: Evidence) -> tuple[Finding, ...]:
    """What the rows about a run find; empty for an admissible run, and where there is no manifest to ask."""
    if evidence.manifest is None:
        return ()
    asked = Asked(evidence, evidence.manifest, tuple(_processes(evidence.manifest)))
    return tuple(finding for row in RUN_ROWS.values() for finding in row(asked))


def admit(
    verdicts: Iterable[Verdict], claim: Claim, evidence: Evidence, findings: Sequence[Finding]
) -> tuple[Verdict, ...]:
    """The verdicts on `claim` as far as the run, and the claim's own bound, let them stand."""
    involved = {claim.variant, claim.baseline if isinstance(claim, TimeClaim) else claim.against}
    here = [f for f in findings if not f.variants or involved & set(f.variants)]
    here += [found for row in CLAIM_ROWS.values() for found in row(claim, evidence)]
    return tuple(_admitted(verdict, here) for verdict in verdicts)


def _admitted(verdict: Verdict, findings: Sequence[Finding]) -> Verdict:
    if verdict.status not in ("met", "exceeded", "missed", "inconclusive"):
        return verdict
    named = "".join(f"; {f.text}" for f in findings if f.grade == NAMED)
    grave = [f for f in findings if f.grade != NAMED]
    texts = "; ".join(f.text for f in grave)
    if not grave:
        return verdict if verdict.status == "inconclusive" else replace(verdict, reason=verdict.reason + named)
    if verdict.status == "missed":
        return replace(verdict, reason=f"{verdict.reason}; besides, {texts}{named}")
    status = "invalid" if any(f.grade == INVALID for f in grave) else "inconclusive"
    return replace(verdict, status=status, reason=f"{texts}; apart from that, {verdict.reason}{named}")


# --- one run: facts that all its processes share --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A run as the rows see it."""

    evidence: Evidence
    manifest: Manifest
    processes: tuple[Process, ...]

    @property
    def untraced(self) -> tuple[Process, ...]:
        return tuple(p for p in self.processes if p.index is not None)

    def analysed(self) -> Iterator[tuple[VariantEvidence, Recorded, Analysis, Sequence[int]]]:
        """Each recording whose trace is believed, its analysis, and the durations of the trace's iterations."""
        for variant in self.evidence.variants.values():
            for made in variant.recordings:
                if made.analysis is not None:
                    table = made.analysis.iterations
                    yield variant, made, made.analysis, (table["end_ns"] - table["start_ns"]).to_list()


def _processes(manifest: Manifest) -> Iterator[Process]:
    shared = {made.index for made in manifest.rounds if len(made.result.variants) > 1}
    for made in manifest.rounds:
        times = _times(made.result.variants)
        where = f"round {made.index}" if made.index in shared else f"{', '.join(times)} in round {made.index}"
        yield _process(where, made.index, tuple(v.name for v in made.result.variants), made, times, made.result.facts)
    for one in manifest.commands:
        where = f"{one.variant} in round {one.index}"
        yield _process(where, one.index, (one.variant,), one, {one.variant: one.answer.iterations_ns}, {})
    for variant in manifest.variants:
        for number, recording in enumerate(variant.recordings):
            result, answer = recording.result, recording.answer
            times = _times(result.variants) if result else {variant.name: answer.iterations_ns if answer else ()}
            facts = result.facts if result else {}
            yield _process(_recording_of(variant, number), None, (variant.name,), recording, times, facts)


def _recording_of(variant: Variant, number: int) -> str:
    return f"recording {number + 1} of {variant.name}" if variant.again else f"the recording of {variant.name}"


def _process(
    where: str,
    index: int | None,
    variants: tuple[str, ...],
    made: Any,
    times: Mapping[str, Sequence[int]],
    facts: Mapping[str, Any],
) -> Process:
    started = "" if index is None else str(made.started_utc)
    sources = (made.commit, made.tree)
    return Process(
        where, index, variants, tuple(made.command), made.exit_code, made.wall_ns, started, sources, times, facts
    )


def _times(results: Sequence[VariantResult]) -> dict[str, Sequence[int]]:
    return {result.name: result.iterations_ns for result in results}


def _unequal(what: str, values: Iterable[tuple[str, Any]]) -> Iterator[Finding]:
    """An objection with the first known value and the first one that differs from it; `values` are (process, value)."""
    known = [(where, value) for where, value in values if value is not None]
    for where, value in known[1:]:
        if value != known[0][1]:
            one, other = str(known[0][1])[:80], str(value)[:80]
            yield Finding(OBJECTION, f"{what} is {one} in {known[0][0]} and {other} in {where}")
            return


def _facts(row: str) -> Callable[[Asked], Iterator[Finding]]:
    def differing(asked: Asked) -> Iterator[Finding]:
        for key, what in FACTS[row].items():
            yield from _unequal(what, [(p.where, p.facts.get(key)) for p in asked.processes])

    return differing


def _driver(asked: Asked) -> Iterator[Finding]:
    said = [("the machine's record", asked.manifest.hardware.driver)]
    yield from _unequal("the driver", [*said, *((p.where, p.facts.get("driver")) for p in asked.processes)])


def _clocks(asked: Asked) -> Iterator[Finding]:
    """Limits alone: the clocks themselves move with the load."""
    said: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for when, rows in asked.manifest.hardware.clocks.items():
        for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
            for key, value in row.items() if isinstance(row, Mapping) else ():
                if "max" in key or "limit" in key:
                    said.setdefault((str(row.get("index"))[:20], key[:40]), []).append(
                        (f"the reading {when} the run", value)
                    )
    for (gpu, key), values in said.items():
        yield from _unequal(f"{key} of GPU {gpu}", values)


def _sources(asked: Asked) -> Iterator[Finding]:
    yield from _unequal("the sources' commit", [(p.where, p.sources[0]) for p in asked.processes])
    trees = [(p.where, p.sources[1]) for p in asked.processes]
    found = list(_unequal("the tree of the sources", trees))
    yield from found
    changed = next((tree for _, tree in trees if tree not in (None, "clean")), None)
    if changed and not found:
        yield Finding(NAMED, f"every process ran from a tree with changes (digest {changed}) that no commit holds")


def _commands(asked: Asked) -> Iterator[Finding]:
    pair = asked.manifest.source == PAIR
    if asked.manifest.source == COMMAND:
        return
    for variant in asked.manifest.variants:
        mine = [p for p in asked.processes if variant.name in p.variants]
        if not mine or mine[0].index is None:
            continue
        first = _core(mine[0].command, pair)
        for other in mine[1:]:
            core = _core(other.command, pair)
            same = core == first if other.index is not None else core[-len(first) :] == first
            if not same:
                one, two = _apart(first, core if other.index is not None else core[-len(first) :])
                text = f"the command of {variant.name} is {one} in {mine[0].where} and {two} in {other.where}"
                yield Finding(OBJECTION, text, (variant.name,))
                break


def _core(command: Sequence[str], pair: bool) -> tuple[str, ...]:
    """A workload's command without what differs by design: its result's path, and which variants, in which order."""
    if pair:
        return tuple(command)
    kept, words = [], iter(command)
    for word in words:
        if word in ("--result", "--variant"):
            next(words, None)
        elif word != "--trace":
            kept.append(word)
    return tuple(kept)


def _apart(one: Sequence[str], other: Sequence[str]) -> tuple[str, str]:
    """The first words that differ, each with the word before it."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return tuple(repr(shlex.join(words[max(at - 1, 0) : at + 1])[:80]) for words in (one, other))  # type: ignore[return-value]


def _iterations(asked: Asked) -> Iterator[Finding]:
    for variant in asked.manifest.variants:
        counts = [(p.where, len(p.times_ns[variant.name])) for p in asked.processes if variant.name in p.times_ns]
        if asked.manifest.source in (COMMAND, PAIR):
            counts = [(where, n) for where, n in counts if n]  # commands may time none, or their recording may not
        for found in _unequal(f"the number of timed iterations of {variant.name}", counts):
            yield replace(found, variants=(variant.name,))


def _answered(asked: Asked) -> Iterator[Finding]:
    """Workloads: what each process says that it ran is what the manifest says."""
    manifest = asked.manifest
    for where, result in _results(manifest):
        said = {
            "workload": (manifest.workload, result.workload),
            "device": (manifest.hardware.device, result.device),
            "size": (manifest.size, result.size),
            "seed": (manifest.seed, result.seed),
        }
        counts = {len(v.iterations_ns) for v in result.variants}
        if manifest.iterations is not None and counts != {manifest.iterations}:
            said["number of iterations"] = (manifest.iterations, min(counts, default=0))
        for what, (planned, ran) in said.items():
            if planned is not None and planned != ran:
                text = f"the run's {what} is {str(planned)[:80]}, and {where} says {str(ran)[:80]}"
                yield Finding(OBJECTION, text)
                return


def _tolerances(asked: Asked) -> Iterator[Finding]:
    for variant in asked.manifest.variants:
        said = [
            (where, v.output.tolerance)
            for where, result in _results(asked.manifest)
            for v in result.variants
            if v.name == variant.name
        ]
        for found in _unequal(f"the tolerance of {variant.name}", said):
            yield replace(found, variants=(variant.name,))


def _proofs(asked: Asked) -> Iterator[Finding]:
    """From harness 2 on every answer says how the work was proved; the two that were compared are among those timed."""
    if asked.manifest.harness < 2 or asked.manifest.source in (COMMAND, PAIR):
        return
    reuse: dict[bool, str] = {}
    recorded = [made.result for variant in asked.manifest.variants for made in variant.recordings]
    for where, result in _results(asked.manifest):
        for variant in result.variants:
            proof = variant.proof
            timed = range(len(variant.iterations_ns))
            if proof is None or not proof.compared or not set(proof.compared) <= set(timed):
                lacking = "no proof of its work" if proof is None else "no timed iteration whose outputs were compared"
                yield Finding(OBJECTION, f"{variant.name} in {where} has {lacking}", (variant.name,))
                return
            if not any(
                result is made for made in recorded
            ):  # a recorded process draws once, so that it holds nothing else
                reuse.setdefault(proof.fresh, f"{variant.name} in {where}")
    if len(reuse) > 1:
        yield Finding(OBJECTION, f"inputs were fresh in each iteration of {reuse[True]}, and not of {reuse[False]}")


def _repeated(asked: Asked) -> Iterator[Finding]:
    """Named where less than half of the input bytes that an iteration needs get other values before it.

    Held against the input that the problem itself states, not against all its tensors: parameters stay by right, and may be a
    thousand times as large. A problem that states no input has nothing else to be held against than all of them.
    """
    if asked.manifest.source in (COMMAND, PAIR):
        return
    for made in asked.manifest.rounds:
        for variant in made.result.variants:
            proof, needed = variant.proof, variant.work.input_bytes
            if proof is None or proof.drawn_bytes is None or not proof.fresh:
                continue
            of, what = (
                (needed, "bytes that one needs") if needed else (proof.problem_bytes or 0, "bytes of the problem")
            )
            if proof.drawn_bytes < (DRAWN_SHARE if needed else DRAWN_OF_ALL) * of:
                drawn = f"{proof.drawn_bytes:,} of the {of:,} {what} get other values before each"
                yield Finding(NAMED, f"iterations repeat most of their input: {drawn}")
                return


def _spans(asked: Asked) -> Iterator[Finding]:
    """The timed span of a process holds its iterations, and lies within how long the process lasted."""
    for made in asked.manifest.rounds:
        for variant in made.result.variants:
            span = list(variant.timed_ns)
            if not span:
                continue
            timed, lasted = sum(variant.iterations_ns), span[-1] - span[0] if len(span) == 2 else -1
            if not timed <= lasted * (1 + SPAN_SLACK) or lasted > made.wall_ns:
                text = (
                    f"{variant.name} in round {made.index} timed {timed / 1e6:.4g} ms of iterations in a span of "
                    f"{lasted / 1e6:.4g} ms, of a process that lasted {made.wall_ns / 1e6:.4g} ms"
                )
                yield Finding(OBJECTION, text, (variant.name,))
                return


def _results(manifest: Manifest) -> Iterator[tuple[str, ProcessResult]]:
    """What each process of a workload answered, with its name."""
    yield from ((f"round {made.index}", made.result) for made in manifest.rounds)
    for variant in manifest.variants:
        for number, recording in enumerate(variant.recordings):
            if recording.result is not None:
                yield _recording_of(variant, number), recording.result


# --- one run: its plan and its occasion -----------------------------------------------------------------------------------


def _rounds(asked: Asked) -> Iterator[Finding]:
    planned = [variant.name for variant in asked.manifest.variants]
    ran: dict[int, list[str]] = {}
    for process in asked.untraced:
        ran.setdefault(process.index or 0, []).extend(process.variants)
    if list(ran) != list(range(len(ran))):
        yield Finding(OBJECTION, f"rounds are missing or out of order: the run has {_listed(list(ran))}")
        return
    looks = asked.manifest.looks
    for index, names in ran.items():
        order = planned if index % 2 == 0 else planned[::-1]
        if sorted(names) != sorted(planned):
            text = f"round {index} ran {', '.join(names)}, and the plan says each of {', '.join(planned)} once"
            yield Finding(OBJECTION, text)
            return
        if looks and names != order:
            text = f"round {index} ran in the order {', '.join(names)}, and the plan says {', '.join(order)}"
            yield Finding(OBJECTION, text)
            return
    if looks and ran and len(ran) not in looks:
        planned_looks = ", ".join(map(str, looks))
        yield Finding(
            OBJECTION, f"the run ended after {len(ran)} rounds, and the plan has a verdict after {planned_looks}"
        )


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices[:12])) + (" ..." if len(indices) > 12 else "")


def _times_in_order(asked: Asked) -> Iterator[Finding]:
    starts = [(p.where, _utc(p.started_utc)) for p in asked.untraced if p.started_utc]
    known = [(where, at) for where, at in starts if at is not None]
    if len(known) < len(starts):
        where = next(where for where, at in starts if at is None)
        yield Finding(OBJECTION, f"{where} was started at no time that can be read")
    for (before, one), (after, two) in pairwise(known):
        if two < one:
            yield Finding(OBJECTION, f"{after} was started at {two:%FT%TZ}, before {before} at {one:%FT%TZ}")
            break
        if two - one > OCCASION_GAP:
            gap = (two - one) / timedelta(days=1)
            text = f"rounds were made on different occasions: {before} and {after} were started {gap:.3g} days apart"
            yield Finding(OBJECTION, text)
            break
    created = _utc(asked.manifest.created_utc)
    for where, at in known:
        if created is not None and at > created:
            text = f"{where} was started at {at:%FT%TZ}, after the run was complete at {created:%FT%TZ}"
            yield Finding(OBJECTION, text)
            break


def _utc(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _wall(asked: Asked) -> Iterator[Finding]:
    for process in asked.processes:
        timed = sum(map(sum, process.times_ns.values()))
        if timed > process.wall_ns:
            text = f"{process.where} timed {timed / 1e6:.4g} ms of iterations and lasted {process.wall_ns / 1e6:.4g} ms"
            yield Finding(OBJECTION, text)
            return


def _exits(asked: Asked) -> Iterator[Finding]:
    for process in asked.processes:
        if process.exit_code != 0:
            yield Finding(OBJECTION, f"{process.where} ended with exit code {process.exit_code}")
            return


def _first_of_each(row: Callable[[Asked], Iterator[Finding]]) -> Callable[[Asked], Iterator[Finding]]:
    """`row` with one finding a variant: its recordings are often wrong in the same way."""

    def found(asked: Asked) -> Iterator[Finding]:
        return iter({finding.variants: finding for finding in reversed(list(row(asked)))}.values())

    return found


# --- one run: the traces --------------------------------------------------------------------------------------------------


def _recordings(asked: Asked) -> Iterator[Finding]:
    """Which variant a workload's recording is of; a pair's is held against its rounds (`_commands`)."""
    if asked.manifest.source in (COMMAND, PAIR):
        return
    for variant in asked.manifest.variants:
        for number, recording in enumerate(variant.recordings):
            asks = [word for flag, word in pairwise(recording.command) if flag == "--variant"]
            answers = [] if recording.result is None else [result.name for result in recording.result.variants]
            if asks != [variant.name] or answers != [variant.name]:
                text = (
                    f"{_recording_of(variant, number)} asked for {', '.join(asks) or 'no variant'} and is answered for "
                    f"{', '.join(answers) or 'none'}"
                )
                yield Finding(OBJECTION, text, (variant.name,))
                break


def _trace_files(asked: Asked) -> Iterator[Finding]:
    seen: dict[str, tuple[str, str]] = {}
    for variant in asked.manifest.variants:
        for number, recording in enumerate(variant.recordings):
            where = _recording_of(variant, number)
            keys = [key for key in (recording.trace, recording.trace_sha256) if key is not None]
            if same := next((seen[key] for key in keys if key in seen), None):
                yield Finding(OBJECTION, f"{same[1]} and {where} are one trace", (same[0], variant.name))
            for key in keys:
                seen.setdefault(key, (variant.name, where))


def _trace_iterations(asked: Asked) -> Iterator[Finding]:
    """Of workloads: of a user's command warm-up may be set aside, and ranks iterate together."""
    for variant, made, _, durations in asked.analysed():
        if asked.manifest.source != PAIR and made.traced_ns and len(durations) != len(made.traced_ns):
            text = (
                f"the trace of {variant.name} has {len(durations)} iterations, and its process timed "
                f"{len(made.traced_ns)}"
            )
            yield Finding(OBJECTION, text, (variant.name,))


def _trace_times(asked: Asked) -> Iterator[Finding]:
    """Iteration by iteration; of several ranks by the median: one answers, and the trace's iterations may be another's."""
    alone = {name for p in asked.processes if p.index is None and p.facts.get("ranks", 1) == 1 for name in p.variants}
    for variant, made, _, durations in asked.analysed():
        timed = made.traced_ns[-len(durations) :]  # warm-up is set aside at the front
        if not durations or not timed:
            continue
        if variant.name in alone and len(timed) == len(durations):
            apart = median(abs(one - two) for one, two in zip(durations, timed, strict=True))
        else:
            apart = abs(median(durations) - median(timed))
        if apart > TRACE_SHARE * median(timed) + TRACE_SLACK_NS:
            text = (
                f"an iteration of {variant.name} takes {median(durations) / 1e6:.4g} ms in its trace, and its process timed "
                f"{median(timed) / 1e6:.4g} ms"
            )
            yield Finding(OBJECTION, text, (variant.name,))


def _slowdown(asked: Asked) -> Iterator[Finding]:
    for name, variant in asked.evidence.variants.items():
        untraced = [ns for one in asked.evidence.rounds for ns in one.times_ns.get(name, ())]
        for made in variant.recordings if asked.evidence.timed == "iteration" and untraced else ():
            factor = median(made.traced_ns) / median(untraced) if made.traced_ns else 1.0
            if not 1 / RECORDED_FACTOR <= factor <= RECORDED_FACTOR:
                text = f"an iteration of {name} takes {factor:.3g} times as long when recorded: that was no recording of it"
                yield Finding(OBJECTION, text, (name,))
                break


# --- one run: the work ----------------------------------------------------------------------------------------------------


def _zero_work(asked: Asked) -> Iterator[Finding]:
    for name, variant in asked.evidence.variants.items():
        for answer in variant.answers:
            work = answer.work
            if not any((work.items, work.flops, work.input_bytes, work.output_bytes)):
                yield Finding(INVALID, f"{name} states no work at all in {answer.where}: no items, FLOPs or bytes")
                return


def _device_work(asked: Asked) -> Iterator[Finding]:
    for variant, _, analysis, durations in asked.analysed():
        answer = variant.answers[-1] if variant.answers else None
        if answer is None or answer.inputs[1] != "cuda" or not durations:
            continue
        claimed = answer.work.flops or answer.work.input_bytes or answer.work.output_bytes
        ranges = [path for path in analysis.stages["path"].to_list() if path != "iteration"]
        if claimed and not analysis.kinds["ops"].sum() and not ranges:
            text = (
                f"the trace of {variant.name} holds neither an operation of the device nor a stage, and it states work"
            )
            yield Finding(INVALID, text, (variant.name,))


def _too_fast(asked: Asked) -> Iterator[Finding]:
    for name, text in too_fast(asked.evidence):
        yield Finding(INVALID, text, (name,))


def _moved_out(asked: Asked) -> Iterator[Finding]:
    for name, text in moved_out(asked.evidence):
        yield Finding(OBJECTION, text, (name,))


def _idle_commands(asked: Asked) -> Iterator[Finding]:
    """Commands of a pair that nobody can vouch for: a program that does nothing is the fastest of all."""
    stated = asked.evidence.stated
    if stated is None or not stated.doubt:
        return
    walls: dict[str, list[int]] = {}
    for one in asked.manifest.commands:
        walls.setdefault(one.variant, []).append(one.wall_ns)
    baseline = asked.manifest.variants[0].name if asked.manifest.variants else ""
    for name, ns in walls.items():
        command = next(one.command for one in asked.manifest.commands if one.variant == name)
        share = median(ns) / max(median(walls.get(baseline, ns)), 1)
        if _does_nothing(command):
            yield Finding(OBJECTION, f"{name} is `{shlex.join(command)[:80]}`, which does no work", (name,))
        elif share < IDLE_SHARE:
            text = (
                f"a process of {name} takes {share:.2%} of the time of one of {baseline}, and says nothing of its work"
            )
            yield Finding(OBJECTION, text, (name,))


def _does_nothing(command: Sequence[str]) -> bool:
    words = list(command)
    while words and (words[0] == "env" or re.fullmatch(r"[A-Za-z_]\w*=.*", words[0], re.DOTALL)):
        del words[0]
    if not words:
        return True
    program = PurePosixPath(words[0]).name
    if program in SHELLS and len(words) > 2 and words[1] == "-c":
        steps = [step.split() for step in re.split(r"[;&|\n]+", words[2])]
        return all(_does_nothing(step) for step in steps if step)
    if program == "sleep":
        return all(re.fullmatch(r"[0.]+[smhd]?", word) for word in words[1:])
    return program in IDLE_PROGRAMS


# --- a claim and where its bound comes from -------------------------------------------------------------------------------


def _provenance(claim: Claim, evidence: Evidence) -> Iterator[Finding]:
    then, manifest = claim.provenance, evidence.manifest
    if then is None or manifest is None:
        return
    commit = str(manifest.git.get("commit") or "")
    if then.commit and commit and commit.startswith(then.commit):
        commit = then.commit
    parts = [
        ("driver", then.driver, manifest.hardware.driver),
        ("torch", then.torch, manifest.packages.get("torch")),
        ("commit", then.commit, commit[:12]),
    ]
    changed = [f"{what} {one} then, {other} now" for what, one, other in parts if one and other and one != other]
    if changed:
        yield Finding(NAMED, f"changed since the bound was measured: {', '.join(changed)}")


_NUMBER: Final = r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_READING: Final = re.compile(
    rf"{_NUMBER}(?: \({_NUMBER} to {_NUMBER}\))? (?:over \d+ \w+|in one recording)(?: in [^;]+)?"
)
_EARLIER: Final = re.compile(r"and \d+ earlier runs")

ROOM: Final = 1.5
"""How much more room than `derive` gives a bound may have: the source's text rounds what it was derived from."""


def _edited(claim: Claim, evidence: Evidence) -> Iterator[Finding]:
    """A measured bound has the room that accepting gives it, neither more nor less; limits in ms are not in the text."""
    readings = _readings(claim.source.text)
    if readings is None:
        return
    values, complete = readings
    low, high = min(v[1] for v in values), max(v[2] for v in values)
    least, most = _room(claim, values)
    bound = claim.ratio if isinstance(claim, TimeClaim) else claim.bound
    said = f"its source says {claim.source.text.removeprefix('accepted: ')[:120]}"
    if bound.minimum is not None and (
        bound.minimum > low + _rounding(low) or (complete and bound.minimum < least - _rounding(least))
    ):
        yield Finding(OBJECTION, f"the bound was edited by hand: its minimum is {bound.minimum:.4g}, and {said}")
    elif bound.maximum is not None and (
        bound.maximum < high - _rounding(high) or (complete and bound.maximum > most + _rounding(most))
    ):
        yield Finding(OBJECTION, f"the bound was edited by hand: its maximum is {bound.maximum:.4g}, and {said}")


def _readings(text: str) -> tuple[list[tuple[float, float, float]], bool] | None:
    """((value, low, high) of each occasion, whether all are told); null for text that `accept` did not write."""
    if not text.startswith("accepted: "):
        return None
    parts = text.removeprefix("accepted: ").split("; ")
    told = [part for part in parts if not _EARLIER.fullmatch(part)]
    found = [_READING.fullmatch(part) for part in told]
    if not found or not all(found):
        return None
    values = [(float(m[1]), float(m[2] or m[1]), float(m[3] or m[1])) for m in found if m]
    return values, len(told) == len(parts)


def _room(claim: Claim, values: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """The least minimum and the greatest maximum that accepting could have made of `values`."""
    middle = [value for value, _, _ in values]
    low, high = min(v[1] for v in values), max(v[2] for v in values)
    reach = max(*(top - bottom for _, bottom, top in values), max(middle) - min(middle))
    alone = len(values) == 1
    if not isinstance(claim, TimeClaim):
        metric = METRICS.get(claim.metric)
        if metric is not None and metric.counted:
            return low, high
        starts = 2 * SURE * max(between_starts(claim, value)[0] for value in middle)
        reach = max(reach, starts)
        if greatest(claim.metric, claim.unit) is not None:
            allowance = min(OCCASION, max(min(middle[0], 1 - middle[0]), 0.0) / 2) if alone else 0.0
            reach = max(reach, allowance, LEAST_FRACTION)
            return low - ROOM * reach - 0.01, high + ROOM * reach + 0.01
    reach = max(reach, OCCASION * abs(middle[0]) if alone else 0.0)
    edges = (low - ROOM * reach, high + ROOM * reach)
    return edges[0] - 0.01 * abs(edges[0]), edges[1] + 0.01 * abs(edges[1])


def _rounding(value: float) -> float:
    """What four significant figures may hide."""
    return 1e-3 * abs(value) + 1e-12


RUN_ROWS: Final[Mapping[str, Callable[[Asked], Iterator[Finding]]]] = {
    "device": _facts("device"),
    "versions": _facts("versions"),
    "driver": _driver,
    "settings": _facts("settings"),
    "clock limits": _clocks,
    "sources": _sources,
    "commands": _commands,
    "iterations": _iterations,
    "answers": _answered,
    "tolerances": _tolerances,
    "proofs": _proofs,
    "repeated input": _repeated,
    "spans": _spans,
    "rounds": _rounds,
    "times": _times_in_order,
    "wall time": _wall,
    "exit codes": _exits,
    "recordings": _recordings,
    "trace files": _trace_files,
    "trace iterations": _first_of_each(_trace_iterations),
    "trace times": _first_of_each(_trace_times),
    "recording cost": _slowdown,
    "no work stated": _zero_work,
    "no work traced": _device_work,
    "faster than hardware": _too_fast,
    "untimed work": _moved_out,
    "idle command": _idle_commands,
}
"""Row of the table -> what it asks of a run."""

CLAIM_ROWS: Final[Mapping[str, Callable[[Claim, Evidence], Iterator[Finding]]]] = {
    "circumstances": _provenance,
    "edited bound": _edited,
}
"""Row of the table -> what it asks of a claim's bound, and of a run beside it."""

ROWS: Final = (*RUN_ROWS, *CLAIM_ROWS, "same run")
"""Every row of the table; `validity.beforehand` asks the last one, by the digest of what was measured."""
