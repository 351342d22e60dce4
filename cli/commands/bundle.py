"""``aisp-trace bundle``: a run's proof in one archive, and its verification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import print_json, say, say_lines, say_wrapped, size, warn
from ..outputs import Force

if TYPE_CHECKING:
    from ...traces.bundle import Bundle
    from ..evidence import Judged

LARGE_BYTES = 64 << 20
"""Files from this size on are announced."""

SCHEMA = "aisp-trace/bundled/1"


def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN | verify FILE]",
            help="a run folder, by default the newest run; or the word verify and a bundle",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="where to write it; default: <run>.bundle.tar.gz; - is standard output",
        ),
    ] = None,
    expectations: Annotated[
        Path | None,
        typer.Option(
            "--expectations",
            metavar="DIR",
            help="folder of expectations_*.json; default: ./expectations, else the package's",
        ),
    ] = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document instead of the table")] = False,
) -> int:
    """Put a run's proof into one archive, or verify one.

    A bundle holds the manifest with all timings, the scrubbed traces, the expectations, the verdict, the report, and the
    SHA-256 of each. No paths, users, hosts or environment; never an .nsys-rep.

    `bundle verify FILE` checks it and derives the verdict anew from the traces, timings and expectations inside. It leaves
    2 if the bundle is damaged, or its verdict does not follow; else as `check` does: 0 all met, 1 something missed, 3
    something could not be judged.
    """
    from ...traces.errors import UsageError

    given = words or []
    if given[:1] == ["verify"]:
        if len(given) != 2 or output is not None or expectations is not None or force:
            raise UsageError("`aisp-trace bundle verify` takes one file and, of the options, --json alone")
        return _verify(Path(given[1]), as_json)
    if len(given) > 1:
        raise UsageError(f"one run can be bundled, but {len(given)} words were given; to verify: bundle verify FILE")
    return _make(Path(given[0]) if given else None, output, expectations, force, as_json)


def _make(source: Path | None, output: Path | None, expectations: Path | None, force: bool, as_json: bool) -> int:
    from ...traces.bundle import BUNDLE
    from ...traces.output import Output
    from ...traces.run import RUNS_DIR, load_run, newest_run
    from ..bundle import make
    from ..outputs import aside, expectation_files, inputs_of_run, refuse_mixture

    found = newest_run(Path(RUNS_DIR)) if source is None else load_run(source)
    place = Path(f"{found.manifest.run_id}.bundle.tar.gz") if output is None else output
    target = Output(place, BUNDLE, inputs_of_run(found, *expectation_files(expectations)), force)
    refuse_mixture(as_json, target)
    made = make(found, expectations, target, _tell)
    if as_json:
        print_json(_document("made", made.bundle, made.judged, [], 0))
        return 0
    with aside(target):
        say(f"bundle    {place} ({size(made.nbytes)}, {len(made.bundle.index.members)} files)")
        say(f"identity  sha256 {made.bundle.identity}")
        say(f"verdict   {_summary(made.judged)}")
        say_wrapped(
            "Write the identity down where it cannot be changed later, such as a commit or a message: it stands for every "
            "byte."
        )
    return 0


def _verify(file: Path, as_json: bool) -> int:
    from ...expectations.judging.verdict import exit_code
    from ..bundle import verify
    from ..verdicts import sentences, verdict_table

    found = verify(file)
    code = exit_code(found.judged.verdicts)
    if as_json:
        print_json(_document("verified", found.bundle, found.judged, list(found.notes), code))
        return code
    say(f"bundle    {file}: {len(found.bundle.index.members)} files, every checksum right")
    say(f"identity  sha256 {found.bundle.identity}")
    say(f"run       {found.bundle.index.run_id} on {found.judged.evidence.hardware_key}")
    say("verdict   derived anew from its traces, timings and expectations: the same as stored")
    if found.judged.verdicts:
        say()
        say_lines(verdict_table(found.judged.verdicts, found.judged.evidence.workload))
        say()
    for line in sentences(found.judged.verdicts):
        say_wrapped(line)
    for note in (*found.judged.notes, *found.notes):
        say_wrapped(f"note: {note}.")
    say(f"{_summary(found.judged)}.")
    return code


def _summary(judged: Judged) -> str:
    from ...expectations.judging.verdict import counts

    found = ", ".join(f"{n} {status}" for status, n in counts(judged.verdicts).items() if n)
    return found or f"no claim is about {judged.evidence.workload}, so nothing was judged"


def _document(what: str, bundle: Bundle, judged: Judged, notes: list[str], code: int) -> dict[str, Any]:
    from ...expectations.judging.verdict import counts

    return {
        "schema": SCHEMA,
        "done": what,
        "run_id": bundle.index.run_id,
        "identity": bundle.identity,
        "made_with": dict(bundle.index.made_with),
        "members": [{"path": m.path, "bytes": m.nbytes, "sha256": m.sha256} for m in bundle.index.members],
        "counts": dict(counts(judged.verdicts)),
        "notes": [*judged.notes, *notes],
        "exit_code": code,
    }


def _tell(path: str, nbytes: int) -> None:
    if nbytes >= LARGE_BYTES:
        warn(f"packing {path}, {size(nbytes)} ...")
