"""A run's proof in one file, and what follows from it: `make` and `verify` derive the same things from the same folder.

    run (scrubbed) + expectations -> verdict.json, report.html     by make: stored
                                  -> verdict, page                 by verify: compared with what is stored

`make` derives from what it puts into the bundle, never from the original, so that nothing in a bundle depends on
anything outside it. `verify` reads the stored verdict last, to compare it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from itertools import chain
from math import isclose
from pathlib import Path
from typing import Any, Final

from ..analyze.result import Analysis
from ..analyze.sources import Asked, Source
from ..expectations.claims.diff import Difference, differences
from ..expectations.claims.load import PATTERN
from ..expectations.judging.judged import COUNTED_WHOLE, Judged, analyses_of_run, analyses_to_judge, judge_run
from ..expectations.judging.verdict import Verdict
from ..traces.bundle import INDEX, SIGNATURE, Bundle, pack, unpack
from ..traces.documents import CALIBRATION, parse, read, read_bytes
from ..traces.documents import VERDICT as VERDICT_KIND
from ..traces.errors import InputError
from ..traces.hardware_key import calibration_name
from ..traces.output import Output
from ..traces.places import calibration_folders
from ..traces.run import Run, load_run, write_json
from ..traces.scrub.run import clean_document, scrub_run
from ..traces.signing import Key
from ..traces.version import version
from .documents.verdicts import document
from .page.page import MOST_GAPS, render

RUN: Final = "run"
EXPECTATIONS: Final = "expectations"
CALIBRATIONS: Final = "calibrations"
KERNELS: Final = "kernels"
VERDICT: Final = "verdict.json"
REPORT: Final = "report.html"
README: Final = "README.txt"

PACKAGES: Final = ("numpy", "plotly", "polars", "pyarrow")
"""Packages that take part in the verdict or the page."""

Told = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle that was written, and the verdict in it."""

    bundle: Bundle
    judged: Judged
    nbytes: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The same evidence by bounds from outside the bundle, which are those of `whose` (a folder or a commit).

    `differences` lead from those bounds to the bundle's, file by file in order of hardware keys.
    """

    whose: str
    judged: Judged
    differences: tuple[Difference, ...]

    @property
    def asks_less(self) -> bool:
        """Whether the bundle's own bounds accept something that these refuse."""
        return any(one.asks_less for one in self.differences)


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle whose content is what its index says and whose verdict is what its evidence gives.

    `notes` say what could not be compared. `compared` is what other bounds make of it; null where none were given.
    """

    bundle: Bundle
    judged: Judged
    notes: tuple[str, ...]
    compared: Compared | None = None


def make(
    run: Run,
    asked: Path | None,
    target: Output,
    told: Told | None = None,
    add_kernels: Callable[[Path], None] = lambda folder: None,
    key: Key | None = None,
) -> Made:
    """Write the proof of `run`, judged by the expectations in folder `asked` or those that apply here, to `target`.

    `add_kernels` puts the artefacts of generated kernels into a folder, if the run has any; no verdict depends on them.
    `key` signs the bundle.

    Raises `InputError` if a part cannot be read, scrubbed or written, or if scrubbing would change a verdict, and as
    `target.check` does, before anything is read.
    """
    target.check()
    original = judge_run(run, analyses_of_run(run), asked)
    # The parts lie beside the bundle, where its disk has room.
    with target.file() as building, tempfile.TemporaryDirectory(prefix=".aisp-trace-", dir=building.parent) as name:
        folder = Path(name)
        scrubbed = scrub_run(run, folder / RUN, told)
        _copy_expectations(original.expectations.folder, folder / EXPECTATIONS)
        _copy_calibration(scrubbed, folder / CALIBRATIONS)
        add_kernels(folder / KERNELS)
        judged, page, _ = _derive(folder)
        _same_verdicts(original.verdicts, judged.verdicts, run)
        write_json(folder / VERDICT, _document(judged))
        (folder / REPORT).write_text(page(), encoding="utf-8")
        (folder / README).write_text(_README.format(run=scrubbed.manifest.run_id, version=version()), encoding="utf-8")
        _refuse_paths(folder, run)
        bundle = pack(folder, building, scrubbed.manifest.run_id, made_with(), told, key)
        nbytes = building.stat().st_size
    return Made(bundle, judged, nbytes)


def verify(
    file: Path, expectations: Path | None = None, whose: str | None = None, signers: Sequence[str] = ()
) -> Verified:
    """Derive the verdict anew from the traces, timings and expectations in bundle `file`, and compare.

    With the folder `expectations`, of `whose`, the evidence is judged by those bounds as well, and the two are compared.

    Raises `InputError` if the bundle is damaged, is not signed by one of `signers` (public keys, if any), or holds anything that
    does not follow from its evidence: a verdict, or (where it was made by this very version) a page.
    """
    if not file.is_file():
        found = "it is a folder" if file.is_dir() else "there is no such file"
        raise InputError(f"{file} cannot be verified: {found}; name a file made by `aisp-trace bundle`")
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as name:
        folder = Path(name)
        bundle = unpack(file, folder, signers)
        _refuse_strays(bundle, folder, file)
        judged, page, analyses = _derive(folder)
        same_code = dict(bundle.index.made_with) == made_with()
        _compare(_stored(folder / VERDICT, file), _document(judged), same_code, file)
        notes = []
        if (folder / REPORT).read_bytes() == page().encode():
            pass
        elif same_code:
            raise InputError(f"{file}: its {REPORT} does not follow from its evidence; believe none of it")
        else:
            notes.append(f"{REPORT} was not compared, since other versions made it ({_difference(bundle)})")
        compared = None
        if expectations is not None:
            compared = _compared(folder, judged, analyses, expectations, whose or str(expectations))
    return Verified(bundle, judged, tuple(notes), compared)


def _compared(
    folder: Path, judged: Judged, analyses: Mapping[str, Analysis], expectations: Path, whose: str
) -> Compared:
    """The evidence in `folder` by other bounds, and how these differ from the ones in the bundle."""
    other = judge_run(load_run(folder / RUN), analyses, expectations, (folder / CALIBRATIONS,))
    theirs = {file.hardware_key: file.claims for file in other.expectations.files}
    own = {file.hardware_key: file.claims for file in judged.expectations.files}
    keys = sorted({*theirs, *own})
    found = chain.from_iterable(differences(theirs.get(key, ()), own.get(key, ())) for key in keys)
    return Compared(whose, other, tuple(found))


@lru_cache(maxsize=1)
def made_with() -> Mapping[str, str]:
    """The versions that derive a verdict here; ``code`` is a digest of this package's own files, which a version is not."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in ("analyze", "expectations", "report", "traces"):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix in (".py", ".css", ".js", ".html") and "samples" not in file.parts:
                digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {**versions, "aisp-trace": version(), "code": digest.hexdigest()[:16], "python": platform.python_version()}


def _derive(folder: Path) -> tuple[Judged, Callable[[], str], Mapping[str, Analysis]]:
    """The verdicts on the run in `folder`, what makes the page about it, and the analyses, from nothing outside `folder`."""
    run = load_run(folder / RUN)
    calibrations = (folder / CALIBRATIONS,)
    asked = Asked(gaps=MOST_GAPS, both_names=True, steady=True)
    opened = list(Source(run, run.path).open(asked, calibrations=calibrations))
    shown = {str(o.variant): o.analysis for o in opened}
    analyses = analyses_to_judge(run, shown, calibrations)
    judged = judge_run(run, analyses, folder / EXPECTATIONS, calibrations)
    traces = {o.side: o.trace for o in opened}
    page = partial(
        render,
        run,
        list(shown.values()),
        traces,
        judged.verdicts,
        version=version(),
        notes=(*judged.notes, *((COUNTED_WHOLE,) if judged.verdicts and analyses is not shown else ())),
        predictions=judged.predictions,
        scrubbed=True,
    )
    return judged, page, analyses


def _document(judged: Judged) -> dict[str, Any]:
    """As `check --json`, with the folder of the expectations as the bundle names it."""
    found = document(judged)
    found["expectations"] |= {"folder": EXPECTATIONS, "chosen": "bundle"}
    return found


def _copy_expectations(source: Path, target: Path) -> None:
    """Byte by byte: their checksums are then those of the files that were committed."""
    target.mkdir()
    for file in sorted(source.glob(PATTERN)):
        (target / file.name).write_bytes(file.read_bytes())


def _copy_calibration(run: Run, target: Path) -> None:
    name = calibration_name(run.manifest.hardware.key)
    for folder in calibration_folders(Path.cwd()):
        if (folder / name).is_file():
            target.mkdir()
            write_json(target / name, clean_document(read(folder / name, CALIBRATION)))
            return


def _same_verdicts(before: Sequence[Verdict], after: Sequence[Verdict], run: Run) -> None:
    was, is_now = ([(v.claim, v.quantity, v.status, v.value) for v in found] for found in (before, after))
    if was != is_now:
        raise InputError(
            f"run {run.path} gets other verdicts once its traces are scrubbed; this is a bug in scrubbing, so no "
            "bundle was written; please report it"
        )


def _refuse_paths(folder: Path, run: Run) -> None:
    """The last look: no file may name the folder of the run, or of the user, however it got there."""
    paths = {str(run.path.absolute().parent), str(Path.cwd())}
    needles = [p.encode() for p in sorted(paths) if p.count("/") > 1]
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != EXPECTATIONS):
        rest = b""
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                if any(needle in rest + chunk for needle in needles):
                    what = file.relative_to(folder)
                    raise InputError(
                        f"no bundle was written, since {what} would name a folder of this machine; a range of the program "
                        "is probably named after a path: rename it and capture again"
                    )
                rest = chunk[-4096:]


def _refuse_strays(bundle: Bundle, folder: Path, file: Path) -> None:
    """Every file that a manifest names must be a member: nothing outside the bundle may take part."""
    members = {m.path for m in bundle.index.members}
    for needed in (VERDICT, REPORT, f"{RUN}/manifest.json"):
        if needed not in members:
            raise InputError(f"{file} is not a proof of a run: it has no {needed}")
    for variant in load_run(folder / RUN).manifest.variants:
        for name in [name for made in variant.recordings for name in (made.trace, made.kind_file)]:
            if name is not None and f"{RUN}/{name}" not in members:
                raise InputError(f"{file}: its manifest names {name!r}, which is not in the bundle")
            if name is not None and name.endswith(".nsys-rep"):
                raise InputError(f"{file} holds an .nsys-rep, which a bundle never does")


def _stored(file: Path, bundle: Path) -> Any:
    return parse(read_bytes(file, VERDICT_KIND), VERDICT_KIND, f"{bundle}, its {VERDICT}")


def _compare(stored: Any, derived: Mapping[str, Any], same_code: bool, file: Path) -> None:
    """`InputError` at the first difference. Of other versions the wording may differ, figures and verdicts may not."""
    skip = () if same_code else ("reason", "notes")
    if where := _first_difference(stored, parse(json.dumps(derived), VERDICT_KIND, VERDICT), "", skip):
        advice = (
            "do not believe it"
            if same_code
            else "it was made by other versions: verify it with those, or do not believe it"
        )
        raise InputError(f"{file}: its {VERDICT} is not what its evidence gives: {where}; {advice}")


def _first_difference(one: Any, other: Any, at: str, skip: tuple[str, ...]) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other} - {*skip}):
            if found := _first_difference(one.get(key), other.get(key), f"{at}.{key}".lstrip("."), skip):
                return found
        return ""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            label = f" ({b['quantity']})" if isinstance(b, dict) and "quantity" in b else ""
            if found := _first_difference(a, b, f"{at}[{i}]{label}", skip):
                return found
        return ""
    if type(one) is type(other) is float and isclose(one, other, rel_tol=1e-9):
        return ""
    same = type(one) is type(other) and one == other
    return "" if same else f"{at} is stored as {_brief(one)}, but follows as {_brief(other)}"


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _difference(bundle: Bundle) -> str:
    here, there = made_with(), bundle.index.made_with
    return ", ".join(
        f"{k} {there.get(k, 'none')}, here {here.get(k, 'none')}"
        for k in sorted({*here, *there})
        if here.get(k) != there.get(k)
    )


_README: Final = f"""\
The proof of run {{run}}, made by aisp-trace {{version}}.

{INDEX}           every file here with its length and SHA-256
{SIGNATURE}       the signature of that file, if somebody signed
{RUN}/                 manifest with all untraced timings, and the scrubbed traces
{EXPECTATIONS}/        the claims the run was judged by, byte for byte
{CALIBRATIONS}/        what this machine's links can carry, where that was measured
{KERNELS}/             generated kernels that ran: source, verification, recording
{VERDICT}         the verdict, as `aisp-trace check --json` prints it
{REPORT}          the same for people; opens without a network

Nothing here needs to be believed as it stands: `aisp-trace bundle verify FILE`, given the archive, checks every
checksum and derives the verdict anew from the traces, the timings and the expectations.
"""
