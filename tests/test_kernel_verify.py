"""Every attack on `kernels verify` is refused for its reason, and the controls are told apart, as far as a processor can tell.

The attacks run two at a time, each in a child of its own, before the first test looks at one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.kernels.tasks import find
from aisp_trace.kernels.verify.evidence import Asked
from aisp_trace.kernels.verify.result import REASONS, Verification
from aisp_trace.tests.kernel_attacks.catalogue import ATTACKS, FOLDER, GROUPS, Attack
from aisp_trace.traces.errors import UsageError

pytest.importorskip("torch")

from aisp_trace.kernels.verify.parent import parse_shape, verify

ROOT = Path(__file__).resolve().parents[1]
HERE = [attack for attack in ATTACKS if not attack.cuda]

SHOWN = {"control_right", "nan", "crashes"}
"""Whose verdicts are also printed."""

CALL_S = {"hangs": 3.0}
"""How long a call may take; others get what a busy machine may need."""


@pytest.fixture(scope="module")
def verdicts(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Mapping[str, Future[Verification]]:
    """The verdict on each attack that a test asks for, from a copy of its file."""
    folder = tmp_path_factory.mktemp("attacks")
    pool = ThreadPoolExecutor(2)

    def one(attack: Attack) -> Verification:
        file = folder / attack.file.name
        shutil.copy(attack.file, file)
        asked = Asked(file, "rmsnorm", device="cpu", calls=3, call_s=CALL_S.get(attack.name, 60.0))
        return verify(asked)

    asked = {item.name.partition("[")[2].rstrip("]") for item in request.session.items} | SHOWN
    return {attack.name: pool.submit(one, attack) for attack in HERE if attack.name in asked}


@pytest.mark.parametrize("attack", HERE, ids=lambda attack: attack.name)
def test_an_attack_is_refused_for_its_reason(attack: Attack, verdicts: Mapping[str, Future[Verification]]) -> None:
    found = verdicts[attack.name].result()
    codes = [one.code for one in found.reasons]
    if attack.codes:
        assert found.status == "refused", found.headline
        assert set(codes) & set(attack.codes), (codes, found.reasons[:3])
        assert found.exit_code == 1
    else:
        assert found.status == "cannot tell", found.reasons
        assert codes == []
        assert found.exit_code == 3
        assert found.worst is not None and found.worst.worst is not None
        assert found.worst.worst <= found.worst.worst_allowed


def test_a_verdict_is_a_document_and_a_report(
    verdicts: Mapping[str, Future[Verification]], capsys: pytest.CaptureFixture[str]
) -> None:
    from aisp_trace.report.terminal.kernel_verification import print_verification

    for name in sorted(SHOWN):
        found = verdicts[name].result()
        document = json.loads(json.dumps(found.document(), allow_nan=False))
        assert document["schema"] == "aisp-trace/kernel-verification/1"
        assert document["exit_code"] == found.exit_code
        print_verification(found)
        printed = capsys.readouterr().out
        assert printed.startswith(f"{name}.py: {found.headline}")
        assert "outputs against float64" in printed


def test_the_catalogue_has_every_file_and_the_documentation_every_attack() -> None:
    files = {file.name for file in FOLDER.iterdir() if file.suffix in (".py", ".cu")}
    assert files - {"__init__.py", "catalogue.py"} == {attack.file.name for attack in ATTACKS}
    assert {attack.group for attack in ATTACKS} == set(GROUPS)
    assert {code for attack in ATTACKS for code in attack.codes} <= set(REASONS)
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert [attack.name for attack in ATTACKS if f"`{attack.name}`" not in text] == []
    for attack in ATTACKS:
        first = attack.file.read_text(encoding="utf-8").splitlines()[0]
        assert first.lstrip('"/ ').lower().startswith(attack.group), attack.name


# -- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gone.py", "--task", "rmsnorm"], "gone.py is no file"),
        (["FILE", "--task", "norm"], "no task is called 'norm'"),
        (["FILE", "--task", "rmsnorm", "--dtype", "float8"], "rmsnorm has no dtype 'float8'"),
        (["FILE", "--task", "rmsnorm", "--shape", "rows=4"], "write rows=N,columns=N"),
        (["FILE", "--task", "rmsnorm", "--device", "tpu"], "device 'tpu' does not exist"),
        (["CU", "--task", "rmsnorm", "--device", "cpu"], "there is no GPU to run it on"),
        (["TEXT", "--task", "rmsnorm"], "neither a .cu nor a .py file"),
    ],
)
def test_what_cannot_be_asked_is_said(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"FILE": "control_right.py", "CU": "cuda_right.cu"}
    given = [str(FOLDER / known[w]) if w in known else str(ROOT / "README.md") if w == "TEXT" else w for w in words]
    assert main(["kernels", "verify", *given]) == 2
    assert says in capsys.readouterr().err


def test_a_shape_is_written_as_its_sizes() -> None:
    task = find("rmsnorm")
    assert parse_shape(task, "columns=3,rows=2") == {"rows": 2, "columns": 3}
    for text in ("rows=2", "rows=2,columns=0", "rows=2,rows=3", "rows=2,columns=x", "rows=2,columns=3,more=4"):
        with pytest.raises(UsageError, match="is no shape of rmsnorm"):
            parse_shape(task, text)


def test_the_command_answers_with_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(FOLDER / "untouched.py")
    words = ["kernels", "verify", file, "--task", "saxpy", "--device", "cpu", "--calls", "1", "--json"]
    assert main(words) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["headline"] == "refused: part of an output was not written"
