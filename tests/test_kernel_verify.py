"""Every attack on `kernels verify` is refused for its reason, and the controls are told apart, as far as a processor can tell.

The attacks run two at a time, each in a child of its own, before the first test looks at one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.kernels.tasks import find
from aisp_trace.kernels.verify.evidence import Asked
from aisp_trace.kernels.verify.result import REASONS, Verification
from aisp_trace.tests.kernel_attacks.catalogue import ATTACKS, FOLDER, GROUPS, Attack
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import UsageError

pytest.importorskip("torch")

from aisp_trace.kernels.verify import candidates
from aisp_trace.kernels.verify.candidates import CandidateError
from aisp_trace.kernels.verify.errors import compare
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


# -- the C interface ----------------------------------------------------------------------------------------------

LIBRARY = """
#include <cmath>
extern "C" const char *aisp_describe(void) { return R"(DESCRIPTION)"; }
extern "C" const char *aisp_error(int code) { return "too wide"; }
extern "C" int aisp_launch(int dtype, const void *const *in, void *const *out, const long long *sizes, void *stream) {
    const float *x = static_cast<const float *>(in[0]), *weight = static_cast<const float *>(in[1]);
    float *result = static_cast<float *>(out[0]);
    const long long rows = sizes[0], columns = sizes[1];
    if (dtype != 0 || stream != nullptr || columns > 100) return -2;
    for (long long r = 0; r < rows; ++r) {
        float sum = 0;
        for (long long c = 0; c < columns; ++c) sum += x[r * columns + c] * x[r * columns + c];
        for (long long c = 0; c < columns; ++c)
            result[r * columns + c] = x[r * columns + c] / std::sqrt(sum / columns + 1e-6f) * weight[c];
    }
    return 0;
}
"""
DESCRIBED = '{"task": "rmsnorm", "parameters": {}, "dtypes": ["float32"], "interface": 1}'


def library(folder: Path, described: str) -> str:
    """A shared library with the C interface, for a processor."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    source, made = folder / "library.cpp", folder / f"library{len(list(folder.iterdir()))}.so"
    source.write_text(LIBRARY.replace("DESCRIPTION", described), encoding="utf-8")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", made, source], check=True, timeout=PATIENCE_S)
    return str(made)


def test_a_library_is_called_with_its_operands_and_sizes(tmp_path: Path) -> None:
    import torch

    task = find("rmsnorm")
    run = candidates.load(library(tmp_path, DESCRIBED), task, "float32", ())
    for columns, works in ((7, True), (101, False)):
        shape = {"rows": 3, "columns": columns}
        inputs = task.draw(torch.Generator().manual_seed(1), shape, "float32", torch.device("cpu"))
        outputs = {"out": torch.empty(3, columns)}
        if works:
            assert run(inputs, outputs, shape) is None
            assert compare(outputs["out"], task.reference(inputs, shape)["out"], task.tolerances["float32"]).ok
        else:
            with pytest.raises(CandidateError, match=r"aisp_launch returned -2 \(too wide\)"):
                run(inputs, outputs, shape)


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ("no JSON", "is not JSON"),
        (DESCRIBED.replace("1}", "2}"), "does not say interface 1"),
        (DESCRIBED.replace("rmsnorm", "softmax"), "was made for the task 'softmax', not for 'rmsnorm'"),
        (DESCRIBED.replace("float32", "float16"), "does not list float32"),
    ],
)
def test_a_library_that_is_another_s_is_refused(described: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match=says):
        candidates.load(library(tmp_path, described), find("rmsnorm"), "float32", ())


# -- errors ---------------------------------------------------------------------------------------------------------


def test_how_far_an_output_is_from_its_reference() -> None:
    import torch

    tolerance = find("rmsnorm").tolerances["float32"]
    expected = torch.tensor([3.0, -4.0, 0.0], dtype=torch.float64)
    found = compare(torch.tensor([3.0, -4.0, 0.5]), expected, tolerance)
    assert found.norm == pytest.approx(0.1)
    assert (found.at, found.found, found.expected) == ((2,), 0.5, 0.0)
    assert found.worst == pytest.approx(0.5 / (5 / 3**0.5))  # over the root mean square, since the element is smaller
    assert not found.ok
    for wrong in (float("nan"), float("inf")):
        found = compare(torch.tensor([3.0, wrong, 0.0]), expected, tolerance)
        assert (found.norm, found.worst, found.at, found.ok) == (None, None, (1,), False)
    infinite = torch.tensor([float("inf"), float("nan"), 1.0], dtype=torch.float64)
    assert compare(infinite.float(), infinite, tolerance).ok
    assert not compare(torch.tensor([-float("inf"), float("nan"), 1.0]), infinite, tolerance).ok
    assert not compare(torch.zeros(2), expected, tolerance).ok
    trusted = torch.tensor([True, True, False])
    assert compare(torch.tensor([3.0, -4.0, 0.5]), expected, tolerance, trusted).ok


# -- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gone.py", "--task", "rmsnorm"], "gone.py is not a file"),
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
        with pytest.raises(UsageError, match="is not a shape of rmsnorm"):
            parse_shape(task, text)


def test_the_command_answers_with_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(FOLDER / "untouched.py")
    words = ["kernels", "verify", file, "--task", "saxpy", "--device", "cpu", "--calls", "1", "--json"]
    assert main(words) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["headline"] == "refused: part of an output was not written"
