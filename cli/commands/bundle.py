"""``aisp-trace bundle``: a run's proof in one archive, and its verification."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ...report.terminal.console import aside, print_json, warn
from ...report.terminal.live import watched
from ...traces.errors import UsageError
from ...traces.run import Run
from ..app import examples, new_app
from ..options import Expectations, Force, Json, ShowPersonal, refuse_mixture, run_of

app = new_app()


@app.command(
    epilog=examples(
        "bundle aisp-runs/RUN -o proof.tar.gz",
        "bundle aisp-runs/RUN -o proof.tar.gz --sign ~/.ssh/bundle_key",
        "bundle verify proof.tar.gz --signer bundle_key.pub",
    )
)
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
    commit: Annotated[
        str | None,
        typer.Option("--commit", metavar="REV", help="verify: judge by the expectations of this git commit as well"),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option("--sign", metavar="KEY", help="sign it with this private Ed25519 key, of `ssh-keygen` or in PEM"),
    ] = None,
    signer: Annotated[
        Path | None,
        typer.Option(
            "--signer", metavar="PUBKEY", help="verify: refuse what none of the public keys in this file signed"
        ),
    ] = None,
    show_personal: ShowPersonal = False,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Pack a run's proof into one archive, or verify one.

    A bundle holds the manifest with all timings, the scrubbed traces, the artefacts of generated kernels that ran, the
    expectations, the verdict, the report, and the SHA-256 of each. No environment, and no folders, users, hosts,
    addresses or secrets that are recognised (--show-personal lists what is replaced); never an .nsys-rep.

    `bundle verify FILE` checks it and computes the verdict again from the traces, timings and expectations inside.
    Those bounds are whatever its maker put there: with --expectations DIR or --commit REV the same evidence is judged
    by yours, and every claim that was edited, loosened or left out is named. It says who signed, if anybody did. It
    exits with 2 if the bundle is damaged, its signature is wrong or none of --signer's, or its verdict does not
    follow; else as `check` does, by your bounds where you gave some: 0 all met, 1 something missed, 3 something could
    not be judged.
    """
    given = words or []
    if given[:1] == ["verify"]:
        if len(given) != 2 or output is not None or force or show_personal or sign is not None:
            raise UsageError(
                "verifying takes one bundle, and no option but --expectations, --commit, --signer and --json: "
                "`aisp-trace bundle verify FILE`"
            )
        if commit is not None and expectations is not None:
            raise UsageError("--expectations and --commit both say whose bounds to compare with; give one of them")
        return _verify(Path(given[1]), expectations, commit, signer, as_json)
    for option, value in (("--commit", commit), ("--signer", signer)):
        if value is not None:
            raise UsageError(f"{option} is for verifying: `aisp-trace bundle verify FILE {option} {value}`")
    if len(given) > 1:
        raise UsageError(f"one run can be bundled, but {len(given)} words were given; to verify: bundle verify FILE")
    if show_personal:
        return _show_personal(run_of(Path(given[0]) if given else None))
    return _make(Path(given[0]) if given else None, output, expectations, sign, force, as_json)


def _show_personal(found: Run) -> int:
    from ...analyze.sources import Source
    from ...report.scrubbed import scrubbed
    from ...report.terminal.personal import print_personal
    from ...traces.scrub.personal import Policy

    policy = Policy.of_this_machine()
    with scrubbed(Source(found, found.path), policy):
        print_personal(policy)
    return 0


def _passphrase() -> str:
    """Asked for on a terminal alone: a job would wait for ever."""
    if not sys.stdin.isatty():
        raise UsageError("the key has a passphrase, which only a terminal can be asked for; name a key without one")
    return str(typer.prompt("passphrase of the key", hide_input=True, err=True))


def _make(
    source: Path | None, output: Path | None, expectations: Path | None, sign: Path | None, force: bool, as_json: bool
) -> int:
    from ...expectations.claims.load import expectation_files
    from ...kernels.artifacts import FOLDER, copy_used
    from ...report.documents.bundles import document
    from ...report.proof import make
    from ...report.terminal.bundles import print_made, telling_packing
    from ...traces.bundle import BUNDLE
    from ...traces.inputs import inputs_of_run
    from ...traces.output import Output
    from ...traces.signing import load_key

    found = run_of(source)
    place = Path(f"{found.manifest.run_id}.bundle.tar.gz") if output is None else output
    keys = () if sign is None else (sign,)
    target = Output(place, BUNDLE, inputs_of_run(found, *expectation_files(expectations), *keys), force)
    refuse_mixture(as_json, target)
    key = None if sign is None else load_key(sign, _passphrase)

    def add_kernels(folder: Path) -> None:
        for sentence in copy_used(FOLDER, found.manifest.kernels, folder):
            warn(sentence)

    with watched(f"bundling {found.manifest.run_id}") as tell:
        made = make(found, expectations, target, telling_packing(tell), add_kernels, key)
    if as_json:
        print_json(document("made", made.bundle, made.judged, [], 0))
    else:
        with aside(target):
            print_made(place, made)
    return 0


def _verify(file: Path, expectations: Path | None, commit: str | None, signer: Path | None, as_json: bool) -> int:
    from ...expectations.claims.committed import committed_folder
    from ...expectations.judging.verdict import exit_code
    from ...report.documents.bundles import document
    from ...report.proof import verify
    from ...report.terminal.bundles import print_verified
    from ...traces.signing import load_signers

    signers = () if signer is None else load_signers(signer)
    with ExitStack() as stack:
        yours, theirs = expectations, None if expectations is None else str(expectations)
        if commit is not None:
            yours, theirs = stack.enter_context(committed_folder(commit, Path.cwd())), f"commit {commit}"
        with watched(f"verifying {file.name}"):
            found = verify(file, yours, theirs, signers)
    code = exit_code(found.judged.verdicts)
    if found.compared is not None:
        code = exit_code(found.compared.judged.verdicts)
    if as_json:
        print_json(document("verified", found.bundle, found.judged, found.notes, code, found.compared))
    else:
        print_verified(file, found, None if signer is None else str(signer))
    return code
