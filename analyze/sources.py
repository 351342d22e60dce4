"""What a reading command was given: a run folder, a trace file, or nothing (then the newest run).

Every command that reads goes through here, so that `analyze`, `check` and `report` see the same numbers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..traces import engine
from ..traces.errors import EmptyTraceError, InputError, UsageError
from ..traces.heap import keep_freed_memory
from ..traces.model import Trace
from ..traces.nsys.pages import DECODER
from ..traces.open import PlainFile, open_trace, side_file
from ..traces.samples import Sampler, no_samples
from ..traces.store import cache_key
from .accounts.counters import METRICS
from .words import size

if TYPE_CHECKING:  # imported when a trace has been read, or not at all
    from ..traces.run import Run
    from .attribution.selection import Selection
    from .attribution.steady import Seeking
    from .attribution.window import WindowSpec
    from .result import Analysis


@dataclass(frozen=True, slots=True)
class Opened:
    """One trace of a source. `variant` is null for a bare trace file."""

    variant: str | None
    trace: Trace
    analysis: Analysis

    @property
    def side(self) -> str:
        """What the trace goes by beside others: its variant, or its file."""
        return self.variant or self.analysis.meta.file


LARGE_BYTES: Final = 64 << 20
"""From this size on a trace is cached, its reading is announced, and the compiled primitives are loaded meanwhile."""

_COMPILED: Final = (DECODER, f"{__package__}.compiled")
"""The modules of compiled primitives, in the order of their use."""

_KEPT_BYTES: Final = 1 << 30
"""How much of the heap's top stays when freed: temporary arrays together are seldom larger."""

UNREAD: Final = (("ops", "op_id"), ("ops", "graph_id"), ("ops", "graph_node"), ("api", "call_id"))
"""Columns that no analysis reads. A row's number is its position."""

READ_METRICS: Final = "|".join(f"^{pattern}" for pattern in METRICS.values())
"""Of GPU metrics, those that an analysis reads: four of a GPU's dozens."""


@dataclass(frozen=True, slots=True)
class Quick:
    """Reads traces for an analysis alone. `cache`: keep the tables of large ones as Parquet, and use what was kept.

    `tell` is given a sentence of progress for each step that takes long.
    """

    cache: bool
    tell: Callable[[str], None] = lambda text: None

    def read(self, file: Path, kind_file: Path | None, plain: PlainFile | None = None) -> Trace:
        """The trace in `file`, behind which is `plain`, without the `UNREAD` columns. Reading a large one reports progress."""
        large = file.is_file() and file.stat().st_size >= LARGE_BYTES
        if not large:
            return open_trace(file, kind_file=kind_file, left_out=UNREAD, metrics=READ_METRICS, plain=plain)
        keep_freed_memory(_KEPT_BYTES, one_arena=True)
        threading.Thread(target=engine.prepare, args=(self.tell, *_COMPILED), daemon=True).start()
        self.tell(f"reading {file.name}, {size(file.stat().st_size)}")
        trace = open_trace(
            file,
            kind_file=kind_file,
            cache=self.cache,
            in_background=True,
            left_out=UNREAD,
            metrics=READ_METRICS,
            plain=plain,
        )
        self.tell(f"accounting for {trace.ops.height:,} device operations and {trace.api.height:,} calls")
        return trace


@dataclass(frozen=True, slots=True)
class Asked:
    """How traces are to be looked at, in the words of the command line; see `selection.Selection` for `stages`, `depth`
    and `below`.

    `window` is ``1.5ms:20ms`` or a range, null: the window of the variant; `gaps` is how many of a device's largest are kept.
    `steady`: where a variant has no window of its own, its steady iterations are the window (`attribution.steady`); `iterations`
    and `skip` say which those are, and make them the window of any variant.
    `most_stages` folds all but the costliest (`attribution.bounded`), null: none. `fold`: numbered siblings are one stage
    (`attribution.folding`); `work`: with the table that comparisons are made of.
    `both_names`: an analysis brings the other one along where that matters, for claims.
    """

    window: str | None = None
    attribution: str = "process"
    domain: str | None = None
    gaps: int = 20
    stages: str | None = None
    depth: int | None = None
    below: str | None = None
    most_stages: int | None = None
    fold: bool = True
    both_names: bool = False
    steady: bool = False
    iterations: str | None = None
    skip: int | None = None
    work: bool = True

    @property
    def chosen_window(self) -> str | None:
        """The window that somebody chose, which are the steady iterations where somebody said which those are; null: none."""
        if self.window is None and (self.iterations is not None or self.skip is not None):
            from .attribution.window import STEADY

            return STEADY
        return self.window

    @property
    def options(self) -> list[str]:
        """What somebody chose to look at, as the words of a command line; none where it is all, as it is."""
        given: dict[str, str | int | None] = {
            "--window": self.window,
            "--iterations": self.iterations,
            "--skip": self.skip,
            "--attribution": None if self.attribution == USUAL.attribution else self.attribution,
            "--domain": self.domain,
            "--stages": self.stages,
            "--depth": self.depth,
            "--range": self.below,
        }
        return [word for option, value in given.items() if value is not None for word in (option, str(value))]

    @property
    def selection(self) -> Selection | None:
        """Which ranges are stages; null: all."""
        from .attribution.selection import Selection

        given = (self.stages, self.depth, self.below)
        return None if given == (None, None, None) else Selection(*given)


USUAL: Final = Asked()
"""Nothing in particular."""


@dataclass(frozen=True, slots=True)
class Source:
    """A run with its traces, or a single bare trace (`run` is null), which may be open already."""

    run: Run | None
    path: Path
    trace: Trace | None = None

    def open(
        self, asked: Asked = USUAL, quick: Quick | None = None, calibrations: Sequence[Path] | None = None
    ) -> Iterator[Opened]:
        """Read and analyse the traces one by one, in the order of the variants.

        A variant's window is its `measured` range unless `asked` says otherwise; a foreign command of the user's has none.
        With `quick` a trace comes without the columns that no analysis reads. `calibrations` are the folders to
        look for the machine's calibration in, instead of those that apply in the current folder.
        """
        for variant, trace, samples in self._read(quick):
            from .analyze import analyze
            from .calibrated import peaks_for

            chosen, seeking = self._window(asked, variant, trace)
            look = partial(
                analyze,
                trace,
                variant=variant,
                window=chosen,
                attribution=asked.attribution,
                domain=asked.domain,
                selection=asked.selection,
                largest_gaps=asked.gaps,
                work=asked.work,
                most_stages=asked.most_stages,
                seeking=seeking,
                samples=samples,
                peaks=peaks_for(self.run, trace, Path.cwd(), calibrations),
                **self.untraced(variant),
            )
            analysis = look(fold=asked.fold)
            _refuse_nothing(asked.window, trace, analysis)
            if asked.both_names and (not asked.fold or analysis.stage_names.height):
                analysis = replace(analysis, other_names=look(fold=not asked.fold))
            yield Opened(variant, trace, analysis)

    def analyses(self, asked: Asked = USUAL, quick: Quick | None = None) -> Iterator[Analysis]:
        """The analyses that `open` gives, without the traces: those that were kept (``kept.py``) need no reading."""
        from . import kept
        from .calibrated import calibration_file, keys

        def applies(hardware_keys: Sequence[str]) -> str | None:
            file = calibration_file(hardware_keys, Path.cwd())
            return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()

        for variant, file, kind_file in self._files():
            key = None
            if quick is not None and quick.cache and file.is_file() and file.stat().st_size >= kept.LEAST_BYTES:
                key = self._identity(variant, file, kind_file) | asdict(asked)
                if (found := kept.load(file, key, applies)) is not None:
                    yield found
                    continue
            one = self if variant is None else self.only(variant)
            for opened in one.open(asked, quick):
                if key is not None:
                    kept.save(file, key, opened.analysis, keys(self.run, opened.trace), applies)
                yield opened.analysis

    def _identity(self, variant: str | None, file: Path, kind_file: Path | None) -> dict[str, Any]:
        """What decides the analysis of a trace, beside what is asked and the calibration."""
        beside = [file.with_name(file.name + ending) for ending in ("-wal", "-journal")]
        manifest = None if self.run is None else self.run.manifest
        recording = None if self.run is None or variant is None else self.run.variant(variant).recording
        return {
            "trace": cache_key(file, kind_file or side_file(file), UNREAD, READ_METRICS),
            "beside": [path.stat().st_size if path.is_file() else None for path in beside],
            "variant": variant,
            "source": None if manifest is None else manifest.source,
            "hardware": None if manifest is None else manifest.hardware.key,
            "recorder_version": None if recording is None else recording.recorder_version,
            **self.untraced(variant),
        }

    def untraced(self, variant: str | None) -> dict[str, Any]:
        """`untraced_ns` and `untraced_off` of the run's `variant`, by these names; nulls for a bare trace."""
        if self.run is None or variant is None:
            return {"untraced_ns": None, "untraced_off": None}
        return {"untraced_ns": self.run.untraced_ns(variant), "untraced_off": self.run.untraced_off(variant)}

    def traces(self, quick: Quick | None = None) -> Iterator[tuple[str | None, Trace]]:
        """Read the traces one by one, each with its variant (null: a bare trace); `quick` as of `open`."""
        for variant, trace, _ in self._read(quick):
            yield variant, trace

    def _read(self, quick: Quick | None) -> Iterator[tuple[str | None, Trace, Sampler]]:
        """As `traces`, each with what reads its CPU samples until the next one is asked for."""
        if self.trace is not None:
            yield None, self.trace, no_samples
            return
        for variant, file, kind_file in self._files():
            with PlainFile(file) as plain:
                read = quick.read if quick else _read_whole
                try:
                    trace = read(file, kind_file, plain)
                except EmptyTraceError as exc:
                    raise _as_noted(exc, self.run) from exc
                yield variant, self._with_version(trace, variant), plain.sampler(trace)

    def only(self, variant: str) -> Source:
        """This source with `variant` alone, so that no other is read; raises `InputError` or `UsageError` if it has none."""
        if self.run is None:
            raise UsageError(f"{self.path} is a single trace and has no variant {variant!r}; leave --variant out")
        chosen = self.run.variant(variant)
        return Source(replace(self.run, manifest=replace(self.run.manifest, variants=(chosen,))), self.path)

    def _files(self) -> Iterator[tuple[str | None, Path, Path | None]]:
        if self.run is None:
            yield None, self.path, None
            return
        for variant in self.run.manifest.variants:
            recording = variant.recording
            if recording is not None:
                kinds = None if recording.kind_file is None else self.run.path / recording.kind_file
                yield variant.name, self.run.path / recording.trace, kinds

    def _with_version(self, trace: Trace, variant: str | None) -> Trace:
        """torch.profiler does not write its version into a trace; the manifest of a run knows it."""
        recording = None if self.run is None or variant is None else self.run.variant(variant).recording
        if recording is None or trace.meta.recorder_version != "unknown":
            return trace
        return replace(trace, meta=replace(trace.meta, recorder_version=recording.recorder_version))

    def _window(self, asked: Asked, variant: str | None, trace: Trace) -> tuple[WindowSpec, Seeking]:
        """The window that is asked for, or the variant's own, and how iterations are looked for."""
        from .attribution.steady import Seeking
        from .attribution.window import Offsets, parse_window

        plain = Seeking(asked.iterations, asked.skip)
        if (chosen := asked.chosen_window) is not None:
            spec = parse_window(chosen)
            return (spec.after(_first_op(trace)) if isinstance(spec, Offsets) else spec), plain
        own = self._own_window(variant, trace)
        foreign = self.run is None or self.run.manifest.source in ("command", "pair")
        return own, replace(plain, as_window=asked.steady and foreign and own is None)

    def _own_window(self, variant: str | None, trace: Trace) -> WindowSpec:
        from .attribution.stages import MEASURED

        ours = variant is not None and self.run is not None and self.run.manifest.source != "command"
        return MEASURED if ours and (trace.ranges["name"] == MEASURED).any() else None


def _as_noted(exc: EmptyTraceError, run: Run | None) -> EmptyTraceError:
    """The error in the words of the capture of `run`, which knew why; `exc` where there are none."""
    if run is None or not run.manifest.notes:
        return exc
    variants = run.manifest.variants
    only = f"{variants[0].name}: " if len(variants) == 1 else ""
    notes = "; ".join(note.removeprefix(only) for note in run.manifest.notes)
    return EmptyTraceError(f"{run.path} has nothing to analyze; its capture said: {notes}")


def _read_whole(file: Path, kind_file: Path | None, plain: PlainFile) -> Trace:
    return open_trace(file, kind_file=kind_file, plain=plain)


def _first_op(trace: Trace) -> int:
    if trace.ops.is_empty():
        raise UsageError(
            f"{trace.meta.file} holds no device operation to count from; give --window START:END without +, or a range"
        )
    return int(trace.ops["start_ns"].to_numpy().min())


def _refuse_nothing(window: str | None, trace: Trace, analysis: Analysis) -> None:
    """Raise `UsageError` where a `window` of the user's own holds none of the operations that there are."""
    if window is None or trace.ops.is_empty() or not analysis.kinds.is_empty():
        return
    first, last = _first_op(trace), int(trace.ops["end_ns"].to_numpy().max())
    raise UsageError(
        f"no device operation lies in --window {window[:80]!r}; the operations of {trace.meta.file} run from {first}ns to "
        f"{last}ns, which is --window +0ns:+{last - first}ns"
    )


def find_source(path: Path | None) -> Source:
    """What `path` names: a run folder, a manifest, a trace file; the newest run below ``aisp-runs`` if null.

    Raises `InputError` if it does not exist, is an unfinished run, or holds neither.
    """
    if path is not None and not path.exists():
        head, _, variant = str(path).rpartition(":")
        if head and Path(head).exists():
            raise InputError(f"{path} names variant {variant!r}, and this command takes all of a run: {head}")
        if path.suffix in (".html", ".htm"):
            raise InputError(f"{path} does not exist; if it is the page to write: -o {path}")
        if any(sign in path.name for sign in "*?["):
            raise InputError(f"{path} names no file, and patterns are the shell's: leave out the quotes, or name one")
        raise InputError(f"{path} does not exist; give a run folder or a trace file")
    if path is not None and path.is_dir() and (traces := _traces_in(path)):
        job = f"; if they are ranks of a job: `aisp-trace ranks {path}`; else" if len(traces) > 1 else ";"
        raise InputError(f"{path} is not a run folder but holds traces{job} name one, such as {traces[0]}")
    if path is not None and not path.is_dir() and path.name != "manifest.json":
        return Source(None, path)
    from ..traces.run import RUNS_DIR, load_run, newest_run

    run = newest_run(Path(RUNS_DIR)) if path is None else load_run(path)
    return Source(run, run.path)


_TRACE_FILES: Final = ("*.sqlite", "*.sqlite.xz", "*.nsys-rep", "*.json.gz")


def _traces_in(folder: Path) -> list[Path]:
    """The files in `folder` that are called as traces are, where it is not a run; sorted."""
    if (folder / "manifest.json").exists() or (folder.resolve().parent / "manifest.json").exists():
        return []
    return sorted(file for pattern in _TRACE_FILES for file in folder.glob(pattern))


def traces_beside(path: Path | None) -> int:
    """How many traces lie beside the trace file `path`; 0 for a run."""
    return max(len(_traces_in(path.parent)) - 1, 0) if path is not None and path.is_file() else 0


def find_recorded(path: Path | None) -> Source:
    """As `find_source`, and ``RUN:VARIANT`` is that variant alone; raises `InputError` for a run in which nothing was traced
    (``--profile none``)."""
    head, _, variant = str(path or "").rpartition(":")
    if path is not None and not path.exists() and head and Path(head).exists():
        return find_recorded(Path(head)).only(variant)
    from ..traces.run import run_around

    if path is not None and (run := run_around(path)) is not None:
        raise InputError(f"{path} is one variant of a run; name it {run}:{path.resolve().name}")
    source = find_source(path)
    if source.run is not None and all(v.recording is None for v in source.run.manifest.variants):
        if source.run.manifest.profile == "none":
            raise InputError(
                f"run {source.path} has timings but no trace (profile none); capture it with --profile minimal"
            )
        raise InputError(
            f"run {source.path} has timings but no trace: its recordings held nothing to analyze; "
            f"`aisp-trace check {source.path}` judges the times"
        )
    return source
