"""The run folder: what `capture` writes and every other command reads.

    pipeline_sequential-20261122T170102Z/
        manifest.json                 written last but one; the folder is renamed into place after it
        rounds/round_00.json ...      what each untraced process answered
        baseline/trace.sqlite         the scrubbed nsys export        (recorder nsys)
        baseline/trace.nsys-rep       for the Nsight GUI; may hold the environment, so it never leaves the machine
        baseline/trace.json.gz        torch.profiler's trace          (recorder torch)
        baseline/stages.json          kinds and bytes of its ranges   (recorder torch)
        baseline/traced.json          what the traced process answered
        baseline/*.log                the recorder's stdout and stderr
        baseline/again_1/...          the same of a further recording  (--recordings)
        optimized/...

A run in the making lives in ``.partial-<name>`` beside its final place. It is never taken for a run; `capture
--resume` continues it variant by variant. Only the standard library is needed here.

The manifest is strict JSON: an unknown or missing key is an `InputError`. All times are integer nanoseconds.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import statistics
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from .content import KEY, NAME, RUN_ID, one_line
from .documents import MANIFEST as MANIFEST_KIND
from .documents import Kind, read
from .errors import InputError
from .faults import found, nearest, refusal
from .output import real, replacing

SCHEMA: Final = "aisp-trace/run/1"
RUNS_DIR: Final = "aisp-runs"
"""Folder, below the current one, where `capture` puts runs and `analyze` looks for the newest."""

MANIFEST: Final = "manifest.json"
OPTIMIZED: Final = "optimized"
"""The last rung of every workload's ladder; variants after it are alternatives."""

PARTIAL: Final = ".partial-"
LONGEST_WORKLOAD: Final = 200
"""Characters of a workload's name, which is a file's for workloads of the user's own."""

ADDED: Final = {"added": True}
"""Marks a key that documents of this schema may lack, because they were written before it existed: it has a default."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one iteration of a variant must do (`required`) and is predicted to move.

    `items`, `unit`, `flops`, `input_bytes` and `output_bytes` are required work: equal for all variants or the run
    is invalid. `moved_bytes` maps h2d, d2h, d2d, p2p to the bytes this variant's copies should carry in one
    iteration; null where the variant makes no prediction for that direction.
    """

    items: int
    unit: str
    flops: int
    input_bytes: int
    output_bytes: int
    moved_bytes: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """How far one variant's output lay from the higher-precision reference, in one process.

    `error` is ||out - reference|| / ||reference|| in float64; null stands for infinite: NaN, inf or a wrong shape.
    `ok` is ``error <= tolerance``. `poisoned` is the number of output elements that were never written. Where tensors have
    tolerances of their own, `error` and `tolerance` are those of the tensor that uses most of its own, and `tolerances` are all
    of them, each once, in order of size; a run without it had one, or did not say.
    """

    error: float | None
    tolerance: float
    reference: str
    poisoned: int
    ok: bool
    tolerances: Sequence[float] = field(default=(), metadata=ADDED)

    @property
    def used(self) -> float:
        """The share of its tolerance that the worst tensor uses; infinite if it is not finite."""
        if self.error is None:
            return math.inf
        return self.error / self.tolerance if self.tolerance else math.inf if self.error else 0.0


@dataclass(frozen=True, slots=True)
class Allocator:
    """The framework allocator's own counters over the measured iterations; null where it has none (CPU)."""

    retries: int | None = None
    ooms: int | None = None
    reserved_bytes_before: int | None = None
    reserved_bytes_after: int | None = None
    peak_bytes: int | None = None
    segments_allocated: int | None = None
    segments_freed: int | None = None


HARNESS: Final = 2
"""The version of what times a workload's iterations (`Manifest.harness`): each timed iteration has inputs of its own."""

REPEATED_NS: Final = 500_000_000
"""How long iterations run back to back for their energy: ten readings of NVML, which are 50 ms apart, so that what its ends blur
is a hundredth or two."""

MOST_REPEATED: Final = 10_000
"""Iterations of the energy pass at most: with the harness's own work between them, shorter ones than 50 us take long as well."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the harness saw of one variant's work in one process, beside the error of its outputs.

    `fresh` says that every timed iteration had inputs of its own; else `reuse` is the problem's reason why they stay.
    `compared` are the positions of the timed iterations whose outputs were held against the reference. Times are of what no
    iteration is charged for: `prepare_ns` once, the mean `reset_ns` and the least `outputs_ns`. `objections` are sentences: what
    says that the work was not done while it was timed. `drawn_bytes` of the `problem_bytes` behind all tensors of the problem are
    inputs, which get other values before every iteration; null in older results.
    """

    fresh: bool
    reuse: str | None
    compared: Sequence[int]
    prepare_ns: int
    reset_ns: int
    outputs_ns: int
    objections: Sequence[str] = ()
    drawn_bytes: int | None = field(default=None, metadata=ADDED)
    problem_bytes: int | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, slots=True)
class VariantResult:
    """What one process measured of one variant. `timer` is "cuda_event" or "perf_counter".

    `proof` is null in results of harness 1. `timed_ns` are start and end of the timed iterations on the monotonic clock,
    `repeated_ns` those of the energy pass: `repeated` further iterations, back to back on one draw of inputs. It comes after
    everything that is timed or compared. Empty and 0 on a CPU, in a recorded process and in older results. `kernels` maps the
    tasks of generated kernels that it ran to the SHA-256 of their sources.
    """

    name: str
    timer: str
    iterations_ns: Sequence[int]
    work: Work
    output: Output
    allocator: Allocator = field(default_factory=Allocator)
    proof: Proof | None = field(default=None, metadata=ADDED)
    timed_ns: Sequence[int] = field(default=(), metadata=ADDED)
    repeated_ns: Sequence[int] = field(default=(), metadata=ADDED)
    repeated: int = field(default=0, metadata=ADDED)
    kernels: Mapping[str, str] = field(default_factory=dict, metadata=ADDED)


def repetitions(iterations_ns: Sequence[int], reset_ns: int) -> int:
    """How many iterations the energy pass runs, after timed ones of `iterations_ns` with a mean reset of `reset_ns`.

    By the median iteration they take `REPEATED_NS`, at least two. By the mean one and its reset they take no longer than that or
    the timed iterations did, whichever is longer: a slow reset, or a few slow iterations, must not double a round. There are
    never more than `MOST_REPEATED`. A run is held to this number, so another rule needs another `HARNESS`.
    """
    total = sum(iterations_ns)
    wanted = math.ceil(REPEATED_NS / max(statistics.median(iterations_ns), 1))
    most = math.ceil(max(REPEATED_NS, total) / max(total / len(iterations_ns) + reset_ns, 1))
    return max(min(wanted, most, MOST_REPEATED), 2)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """The result file a workload process writes (``--result``); `facts` are versions and device names it saw."""

    schema: str
    workload: str
    device: str
    size: str
    seed: int
    variants: Sequence[VariantResult]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuState:
    """How one GPU ran over one span of an untraced process, from `samples` readings of NVML in it; 0 or 1 in a short span.

    `gpu` is NVML's number. `sm_mhz` and `memory_mhz` are least, mean and most, empty without a reading; `temperature_c` is the
    most. `energy_mj` is what the GPU's counter rose by, interpolated at the span's ends, and `power_w` that over the span;
    where the GPU counts no energy, the mean of the readings, which newer GPUs average over a second. `slowdown` names why
    clocks were held down in any reading; "idle" stands there only if all say so. Null is unknown.
    """

    gpu: int
    samples: int
    sm_mhz: Sequence[int]
    memory_mhz: Sequence[int]
    power_w: float | None
    temperature_c: int | None
    slowdown: Sequence[str]
    energy_mj: int | None


@dataclass(frozen=True, slots=True)
class Round:
    """One untraced process that ran every variant, in the order given by its result.

    `commit` and `tree` are of the sources when it was started. `tree` is "clean", or a digest of how the tracked files differ
    from the commit. Both are null where nobody knows, here and in the other kinds of processes.
    `gpu_state` has, for each variant, each GPU the process could use: over `VariantResult.timed_ns`, or over the whole process
    where that is empty. It is empty where nothing read NVML. `repeated_gpu_state` has the same over `VariantResult.repeated_ns`,
    of the variants that have an energy pass.
    """

    index: int
    command: Sequence[str]
    exit_code: int
    wall_ns: int
    started_utc: str
    result: ProcessResult
    commit: str | None = field(default=None, metadata=ADDED)
    tree: str | None = field(default=None, metadata=ADDED)
    gpu_state: Mapping[str, Sequence[GpuState]] = field(default_factory=dict, metadata=ADDED)
    repeated_gpu_state: Mapping[str, Sequence[GpuState]] = field(default_factory=dict, metadata=ADDED)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a command of the user's own says it did in one timed unit: an iteration, else the whole process.

    `output` is a digest or short text of the result, which must be the same for all variants; null: none was given.
    """

    items: int
    unit: str
    output: str | None


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What one process of a user's command wrote about itself: its complete iterations, and each different statement.

    `steps_ns` are its training steps, from the end of one to the end of the next, which nobody had to delimit; `steps_lost`
    says why there are none although it made some.
    """

    iterations_ns: Sequence[int]
    stated: Sequence[Statement]
    steps_ns: Sequence[int] = field(default=(), metadata=ADDED)
    steps_lost: str = field(default="", metadata=ADDED)

    def times_ns(self, timed: str | None) -> tuple[int, ...]:
        """Its iterations or its steps, as the manifest's `timed` says; empty where whole processes are timed."""
        return tuple({"iterations": self.iterations_ns, "steps": self.steps_ns}.get(timed or "", ()))


@dataclass(frozen=True, slots=True)
class CommandRound:
    """One untraced process of a pair: round `index`, of one variant. `wall_ns` is monotonic and includes start-up.

    `gpu_state` is that of `Round`, always over the whole process.
    """

    index: int
    variant: str
    command: Sequence[str]
    exit_code: int
    wall_ns: int
    started_utc: str
    answer: CommandAnswer
    commit: str | None = field(default=None, metadata=ADDED)
    tree: str | None = field(default=None, metadata=ADDED)
    gpu_state: Mapping[str, Sequence[GpuState]] = field(default_factory=dict, metadata=ADDED)


@dataclass(frozen=True, slots=True)
class Recording:
    """One traced process. Paths are relative to the run folder. `kind_file` is the torch recorder's side file.

    `result` is a workload's, `answer` that of a command of the user's own; null where there is none. `trace_sha256` is of the
    trace as it was recorded: a copy of the run may hold it compressed or scrubbed. `empty`: nothing in it can be analysed, and
    `notes` say why.
    """

    recorder: str
    recorder_version: str
    command: Sequence[str]
    exit_code: int
    wall_ns: int
    trace: str
    kind_file: str | None
    result: ProcessResult | None
    notes: Sequence[str] = ()
    answer: CommandAnswer | None = field(default=None, metadata=ADDED)
    commit: str | None = field(default=None, metadata=ADDED)
    tree: str | None = field(default=None, metadata=ADDED)
    trace_sha256: str | None = field(default=None, metadata=ADDED)
    empty: bool = field(default=False, metadata=ADDED)


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of the run: its description and its recording (null under ``--profile none``).

    `again` are further recordings of the same program, each of a fresh process: tables and pages show the first, and verdicts
    on mechanisms rest on all. `changes` names the variant that an alternative is one change to; null for a rung, which changes
    the one before it.
    """

    name: str
    description: str
    recording: Recording | None
    changes: str | None = field(default=None, metadata=ADDED)
    again: Sequence[Recording] = field(default=(), metadata=ADDED)

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """All recordings in the order they were made."""
        return () if self.recording is None else (self.recording, *self.again)


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine the run was made on. `key` names it in expectation files; `gpus` is empty on a CPU."""

    key: str
    device: str  # "cuda" or "cpu"
    gpus: Sequence[str]
    driver: str | None
    cuda: str | None
    cpu: str
    cores: int
    clocks: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about a run that is not in its traces.

    A pair of the user's own commands has `commands` instead of `rounds`, and `timed` says what they were timed by:
    "iterations", "steps" or "processes" (``pair_timing.py``).

    `harness` is the version of what times a workload's iterations: 1 gave all of them the same inputs, 2 gives each its own.
    `looks` are the numbers of rounds at which the plan lets a verdict be given, ascending; empty where none was written down.
    `resumed_utc` says when an interrupted capture was gone on with. `rank` of `ranks`: which process of a job this run recorded;
    null outside of a job. `script` names the script, module or program of a single command; null for all others.
    """

    schema: str
    run_id: str
    created_utc: str
    workload: str  # a workload's name, or "command" for a program of the user's own
    source: str  # "builtin", "file", "command" or "pair"
    command_line: Sequence[str]
    profile: str
    recorder: str | None
    hardware: Hardware
    size: str | None
    seed: int | None
    iterations: int | None
    warmup: int | None
    packages: Mapping[str, str]
    git: Mapping[str, Any]  # commit, dirty, null where unknown; changed, the first files that make it dirty
    variants: Sequence[Variant]
    rounds: Sequence[Round]
    notes: Sequence[str] = ()
    commands: Sequence[CommandRound] = field(default=(), metadata=ADDED)
    timed: str | None = field(default=None, metadata=ADDED)
    harness: int = field(default=1, metadata=ADDED)
    looks: Sequence[int] = field(default=(), metadata=ADDED)
    resumed_utc: Sequence[str] = field(default=(), metadata=ADDED)
    rank: int | None = field(default=None, metadata=ADDED)
    ranks: int | None = field(default=None, metadata=ADDED)
    script: str | None = field(default=None, metadata=ADDED)

    def untraced_times_ns(self, variant: str) -> list[Sequence[int]]:
        """The iterations in ns of each untraced process that timed any of the variant."""
        of_rounds = [v.iterations_ns for one in self.rounds for v in one.result.variants if v.name == variant]
        own = (c.answer.times_ns(self.timed) for c in self.commands if c.variant == variant)
        return [times for times in (*of_rounds, *own) if times]

    @property
    def alternatives(self) -> dict[str, str]:
        """The variants that are not rungs of the ladder, each with the variant that it is one change to.

        What follows "optimized" is an alternative even where the manifest does not say to what; then it is one to that.
        """
        names = [variant.name for variant in self.variants]
        after = names[names.index(OPTIMIZED) + 1 :] if OPTIMIZED in names and self.source != "pair" else []
        return {v.name: v.changes or OPTIMIZED for v in self.variants if v.name in after or v.changes is not None}

    @property
    def kernels(self) -> list[tuple[str, str]]:
        """The generated kernels that any process ran: (task, SHA-256 of the source), in order, once each."""
        ran = [made.result.variants for made in self.rounds]
        ran += [_results(made) for variant in self.variants for made in variant.recordings]
        return sorted({pair for variants in ran for variant in variants for pair in variant.kernels.items()})

    @property
    def digest(self) -> str:
        """The SHA-256 of what was measured, whatever the run is called: a copy under another name has the same.

        Of workload, size, device, and each untraced process's start and times; of the recordings' times where no process ran
        untraced. Neither names, paths nor traces are in it, so a scrubbed or shortened copy has the same, too.
        """
        timed: list[Any] = [
            [
                made.index,
                made.started_utc,
                made.wall_ns,
                [[v.name, list(v.iterations_ns)] for v in made.result.variants],
            ]
            for made in self.rounds
        ]
        timed += [
            [made.index, made.started_utc, made.wall_ns, [[made.variant, *_times(made.answer)]]]
            for made in self.commands
        ]
        if not timed:
            timed = [
                [v.name, made.wall_ns, [list(r.iterations_ns) for r in _results(made)]]
                for v in self.variants
                for made in v.recordings
            ]
        measured = [self.workload, self.size, self.hardware.device, timed]
        text = json.dumps(measured, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def again_folder(number: int) -> str:
    """The folder of recording `number` (from 0) within its variant's; the first lies in the variant's own."""
    return f"again_{number}" if number else ""


def _times(answer: CommandAnswer) -> list[list[int]]:
    """Steps are there only where some were made: the digest of an older run stays as it is."""
    return [list(answer.iterations_ns), *([list(answer.steps_ns)] if answer.steps_ns else [])]


def _results(recording: Recording) -> Sequence[VariantResult]:
    return () if recording.result is None else recording.result.variants


@dataclass(frozen=True, slots=True)
class Run:
    """A complete run folder."""

    path: Path
    manifest: Manifest

    def __repr__(self) -> str:
        variants = ", ".join(v.name for v in self.manifest.variants)
        return f"<Run {one_line(str(self.path))}: {one_line(f'{self.manifest.workload}, {variants}'[:120])}>"

    def variant(self, name: str) -> Variant:
        """The variant called `name`; raises `InputError` naming those that exist."""
        for variant in self.manifest.variants:
            if variant.name == name:
                return variant
        names = ", ".join(v.name for v in self.manifest.variants)
        raise InputError(f"run {self.path} has no variant {name!r}; it has {names}")

    def with_recording(self, number: int) -> Run:
        """This run as if recording `number` (from 0) of each variant were its only one; null where there are fewer."""
        variants = [
            replace(v, recording=v.recordings[number] if number < len(v.recordings) else None, again=())
            for v in self.manifest.variants
        ]
        return Run(self.path, replace(self.manifest, variants=variants))

    def untraced_ns(self, variant: str) -> int | None:
        """The median of `untraced_means_ns`; null without any."""
        means = self.untraced_means_ns(variant)
        return round(statistics.median(means)) if means else None

    def untraced_off(self, variant: str) -> float | None:
        """The standard error of the mean of `untraced_means_ns`, as a part of it; null with fewer than two."""
        means = self.untraced_means_ns(variant)
        return (
            statistics.stdev(means) / statistics.mean(means) / len(means) ** 0.5
            if len(means) > 1 and any(means)
            else None
        )

    def untraced_means_ns(self, variant: str) -> list[float]:
        """The mean of an iteration in each untraced process that timed any, in ns."""
        return [statistics.mean(times) for times in self.manifest.untraced_times_ns(variant)]

    def trace_path(self, variant: Variant) -> Path | None:
        """Where the variant's trace lies, or null if it was not recorded."""
        return None if variant.recording is None else self.path / variant.recording.trace


def load_run(path: Path) -> Run:
    """The run in folder `path` (or of a manifest given directly).

    Raises `InputError` if there is no manifest, the folder is an unfinished run, or the manifest is not ours.
    """
    folder = path.parent if path.name == MANIFEST else path
    if folder.name.startswith(PARTIAL):
        raise InputError(
            f"{folder} is an unfinished run and is not believed; finish it with `aisp-trace capture --resume {folder}`"
        )
    file = folder / MANIFEST
    if not path.exists():
        raise InputError(f"{path} does not exist; give a run folder made by `aisp-trace capture`")
    if not file.is_file():
        if (run := run_around(folder)) is not None:
            raise InputError(f"{folder} is one variant of a run, and this command takes all of a run: {run}")
        if ranks := ranks_below(folder):
            raise InputError(
                f"{folder} is not a run folder but holds those of {len(ranks)} ranks of a job; `aisp-trace ranks {folder}` "
                f"merges them, `aisp-trace check {folder}` judges them, or name one, such as {ranks[0].path}"
            )
        raise InputError(f"{folder} is not a run folder (it has no {MANIFEST}); name one made by `aisp-trace capture`")
    return Run(path=folder, manifest=load_manifest(file))


def run_around(path: Path) -> Path | None:
    """The run folder of which `path` is the folder of a variant; null for anything else."""
    folder = real(path)
    if not folder.is_dir() or (folder / MANIFEST).exists() or not (folder.parent / MANIFEST).is_file():
        return None
    return path.parent if path.name == folder.name else folder.parent


def load_manifest(file: Path) -> Manifest:
    """The manifest in `file`; raises `InputError` for anything that is not exactly one."""
    manifest = from_json(Manifest, read_document(file, SCHEMA, MANIFEST_KIND), str(file))
    if faults := list(_name_faults(manifest)):
        raise refusal(str(file), faults)
    return manifest


def read_document(file: Path, schema: str, kind: Kind) -> dict[str, Any]:
    """The JSON object in `file` (`documents.read`) if its ``schema`` is `schema`; else an `InputError`."""
    data = read(file, kind)
    if not isinstance(data, dict) or data.get("schema") != schema:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise InputError(f"{file} has schema {str(found)[:80]!r}, not {schema!r}; {kind.remedy} with this version")
    return data


def _name_faults(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What names files or begins lines and is not a name: nothing later looks again."""
    named = [("run_id", manifest.run_id, RUN_ID), ("hardware.key", manifest.hardware.key, KEY)]
    named += [(f"variants[{i}].name", variant.name, NAME) for i, variant in enumerate(manifest.variants)]
    for path, name, rule in named:
        if not rule.fullmatch(name):
            yield (
                path,
                f"is {name[:80]!r}, and it names files; it must be letters, digits, '_', '.' and '-', a letter or digit "
                f"first, as in {rule.pattern}",
            )
    if not _printable(manifest.workload):
        yield "workload", f"is {manifest.workload[:80]!r}; it must be {_PRINTABLE}"
    names = [variant.name for variant in manifest.variants]
    for twice in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield "variants", f"two are called {twice!r}; give each its own name"
    for i, variant in enumerate(manifest.variants):
        if variant.again and variant.recording is None:
            yield f"variants[{i}].again", "has recordings beside none; correct the manifest"
        for number, made in enumerate(variant.recordings):
            place = f"again[{number - 1}]" if number else "recording"
            for key, file in (("trace", made.trace), ("kind_file", made.kind_file)):
                if file is not None and not _inside(file):
                    yield (
                        f"variants[{i}].{place}.{key}",
                        f"is {file[:80]!r}, which is not a file inside of the run's folder; correct the manifest",
                    )


_PRINTABLE: Final = f"1 to {LONGEST_WORKLOAD} printable characters on one line"


def check_workload(name: str, where: str) -> None:
    """Raise `InputError` unless `name` is 1 to `LONGEST_WORKLOAD` printable characters on one line: output repeats it."""
    if not _printable(name):
        raise InputError(f"{where} is {name[:80]!r}; it must be {_PRINTABLE}")


def _printable(name: str) -> bool:
    return 0 < len(name) <= LONGEST_WORKLOAD and name.isprintable()


def _inside(path: str) -> bool:
    parts = path.split("/")
    short = len(parts) < 10 and all(
        len(part.encode()) <= 255 for part in parts
    )  # file systems refuse to look for longer ones
    return short and path.isprintable() and "\\" not in path and not {"", ".", ".."} & set(parts)


def newest_run(root: Path) -> Run:
    """The complete run under `root` that was created last; raises `InputError` if there is none."""
    if found := runs_below(root):
        return found[-1]
    raise InputError(f"no complete run lies under {root}; make one with `aisp-trace capture`, or name what to read")


def runs_below(root: Path) -> list[Run]:
    """The complete runs under `root`, oldest first; raises `InputError` for one that cannot be read."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    runs = [load_run(d) for d in folders if (d / MANIFEST).is_file() and not d.name.startswith(".")]
    return sorted(runs, key=lambda r: (r.manifest.created_utc, r.manifest.run_id))


def earlier_run(run: Run) -> Run | None:
    """The run that was made last before `run`, in the same folder, of the same script and rank; null where there is none."""
    said = run.manifest
    if said.script is None:
        return None
    asked = (said.source, said.script, said.rank)
    found = [
        one
        for one in runs_below(run.path.resolve().parent)
        if (one.manifest.source, one.manifest.script, one.manifest.rank) == asked
        and (one.manifest.created_utc, one.manifest.run_id) < (said.created_utc, said.run_id)
    ]
    return found[-1] if found else None


def ranks_below(folder: Path) -> list[Run]:
    """The runs of a job's ranks in `folder` or one level deeper (a folder a node), by rank; none where it is a run itself, or
    holds no such runs. Raises `InputError` for one that cannot be read."""
    if not folder.is_dir() or (folder / MANIFEST).exists():
        return []
    found = [path.parent for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/{MANIFEST}")]
    runs = [load_run(path) for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts)]
    return sorted((r for r in runs if r.manifest.rank is not None), key=lambda r: (r.manifest.rank or 0, r.path))


def to_json(value: Any) -> Any:
    """`value` (a dataclass of this module) as plain JSON types."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def write_json(file: Path, value: Any) -> None:
    """Write `value` to `file` atomically: readers see the old text or the new one, never a part. Raises `OSError`."""
    text = json.dumps(to_json(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(file) as building:
        building.write_text(text, encoding="utf-8")


T = TypeVar("T")


def from_json(cls: type[T], data: Any, where: str) -> T:
    """`data` as dataclass `cls`, strictly: an `InputError` tells every key that is unknown, missing or wrongly typed."""
    faults: list[tuple[str, str]] = []
    value = _convert(cls, data, "", faults)
    if faults:
        raise refusal(where, faults)
    return typing.cast(T, value)


def _convert(hint: Any, data: Any, path: str, faults: list[tuple[str, str]]) -> Any:
    """`data` as `hint` says; null, and a line more in `faults`, where it is something else."""
    if is_dataclass(hint) and isinstance(hint, type):
        return _convert_dataclass(hint, data, path, faults)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        return None if data is None else _convert(args[0], data, path, faults)
    if origin is Sequence and isinstance(data, list):
        return tuple(_convert(args[0], item, f"{path}[{i}]", faults) for i, item in enumerate(data))
    if origin is Mapping and isinstance(data, dict):
        return {k: _convert(args[1], v, f"{path}.{k}", faults) for k, v in data.items()}
    if hint is float and type(data) is int:
        return float(data)
    if type(data) is not hint:
        what = f"{data:g}" if hint is int and type(data) is float else found(data)
        faults.append((path.lstrip("."), f"expected {_KINDS[origin or hint]}, found {what}"))
        return None
    return data


_KINDS: Final[Mapping[Any, str]] = {
    Sequence: "a list",
    Mapping: "an object",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _convert_dataclass(cls: Any, data: Any, path: str, faults: list[tuple[str, str]]) -> Any:
    if not isinstance(data, dict):
        faults.append((path.lstrip("."), f"expected an object, found {found(data)}"))
        return None
    hints = _hints(cls)
    unknown = [key for key in data if key not in hints]
    missing = [f.name for f in fields(cls) if f.name not in data and not f.metadata.get("added")]
    faults += [(path.lstrip("."), f"unknown key {key!r}{nearest(key, hints)}") for key in unknown]
    faults += [(path.lstrip("."), f"key {key!r} is missing") for key in missing]
    known = {k: _convert(hints[k], v, f"{path}.{k}", faults) for k, v in data.items() if k in hints}
    return None if unknown or missing else cls(**known)


@functools.cache
def _hints(cls: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)
