"""``aisp-trace bundle``: a run's proof in one archive, and its verification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...report.terminal.console import aside, print_json, warn
from ...report.terminal.live import watched
from ...traces.errors import UsageError
from ..app import examples, new_app
from ..options import Expectations, Force, Json, refuse_mixture, run_of

app = new_app()


@app.command(epilog=examples("bundle aisp-runs/RUN -o proof.tar.gz", "bundle verify proof.tar.gz"))
def run(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN | verify FILE",
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
    expectations: Expectations = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Put a run's proof into one archive, or verify one.

    A bundle holds the manifest with all timings, the scrubbed traces, the artefacts of generated kernels that ran, the
    expectations, the verdict, the report, and the SHA-256 of each. No paths, users, hosts or environment; never an .nsys-rep.

    `bundle verify FILE` checks it and derives the verdict anew from the traces, timings and expectations inside. It exits
    with 2 if the bundle is damaged, or its verdict does not follow; else as `check` does: 0 all met, 1 something missed, 3
    something could not be judged.
    """
    given = words or []
    if given[:1] == ["verify"]:
        if len(given) != 2 or output is not None or expectations is not None or force:
            raise UsageError("verifying takes one bundle and no option but --json: `aisp-trace bundle verify FILE`")
        return _verify(Path(given[1]), as_json)
    if len(given) > 1:
        raise UsageError(f"one run can be bundled, but {len(given)} words were given; to verify: bundle verify FILE")
    return _make(Path(given[0]) if given else None, output, expectations, force, as_json)


def _make(source: Path | None, output: Path | None, expectations: Path | None, force: bool, as_json: bool) -> int:
    from ...expectations.claims.load import expectation_files
    from ...kernels.artifacts import FOLDER, copy_used
    from ...report.documents.bundles import document
    from ...report.proof import make
    from ...report.terminal.bundles import print_made, telling_packing
    from ...traces.bundle import BUNDLE
    from ...traces.inputs import inputs_of_run
    from ...traces.output import Output

    found = run_of(source)
    place = Path(f"{found.manifest.run_id}.bundle.tar.gz") if output is None else output
    target = Output(place, BUNDLE, inputs_of_run(found, *expectation_files(expectations)), force)
    refuse_mixture(as_json, target)

    def add_kernels(folder: Path) -> None:
        for sentence in copy_used(FOLDER, found.manifest.kernels, folder):
            warn(sentence)

    with watched(f"bundling {found.manifest.run_id}") as tell:
        made = make(found, expectations, target, telling_packing(tell), add_kernels)
    if as_json:
        print_json(document("made", made.bundle, made.judged, [], 0))
    else:
        with aside(target):
            print_made(place, made)
    return 0


def _verify(file: Path, as_json: bool) -> int:
    from ...expectations.judging.verdict import exit_code
    from ...report.documents.bundles import document
    from ...report.proof import verify
    from ...report.terminal.bundles import print_verified

    with watched(f"verifying {file.name}"):
        found = verify(file)
    code = exit_code(found.judged.verdicts)
    if as_json:
        print_json(document("verified", found.bundle, found.judged, found.notes, code))
    else:
        print_verified(file, found)
    return code
