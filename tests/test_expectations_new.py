"""`aisp-trace expectations new`, and the one policy for whatever writes claims: where, never over a claim, never unseen."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aisp_trace.capture import host
from aisp_trace.cli.main import main
from aisp_trace.expectations.claims import write
from aisp_trace.expectations.claims.load import PACKAGE_DIR, load_file
from aisp_trace.expectations.claims.skeleton import NO_LIMIT_MS, TO_DO, skeleton, time_id
from aisp_trace.expectations.claims.write import place_to_write
from aisp_trace.expectations.judging import judged
from aisp_trace.expectations.model import TimeClaim
from aisp_trace.tests.judging.build import HIDDEN, SERIAL, run_folder, time_claim
from aisp_trace.tests.test_accept_command import run_at, state
from aisp_trace.tests.test_expectations_files import MECHANISM, TIME, put, text
from aisp_trace.traces.errors import InputError, UsageError

Aisp = Callable[..., tuple[int, str]]


@pytest.fixture
def aisp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aisp:
    """Run a command in an empty project on a machine without a GPU; gives exit code and everything it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(host, "cuda_usable", lambda: False)
    monkeypatch.setattr(host, "cpu_model", lambda: "Tiny 1")
    monkeypatch.setattr(judged, "analyses_of_run", lambda run: {"baseline": SERIAL, "optimized": HIDDEN})

    def run(*args: str | Path) -> tuple[int, str]:
        code = main([*map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


# --- what is written --------------------------------------------------------------------------------------------------------


def test_a_skeleton_is_right_and_says_what_to_fill_in(aisp: Aisp, tmp_path: Path) -> None:
    code, out = aisp("expectations", "new", "pipeline_sequential")
    assert code == 0, out
    (file,) = (tmp_path / "expectations").glob("*.json")
    assert f"Written to {file}, with the variants of this version, and this machine." in out
    assert "a new folder" in out and "next: replace what says TO DO" in out
    claims = load_file(file).claims
    assert [c.id for c in claims] == ["pipeline_sequential.faster", "pipeline_sequential.cuda_graph_faster"]
    for claim in claims:
        assert isinstance(claim, TimeClaim)
        assert claim.why.startswith(TO_DO) and claim.source.text.startswith(TO_DO)
        assert "does not see both sides slow down together" in claim.source.text
        assert set(claim.max_ms.values()) == {NO_LIMIT_MS}
    assert list(state(tmp_path)) == ["expectations/expectations_cpu_tiny_1.json"]


def test_what_nobody_filled_in_is_a_fault_that_names_the_claim(aisp: Aisp, tmp_path: Path) -> None:
    aisp("expectations", "new", "pipeline_sequential")
    (file,) = (tmp_path / "expectations").glob("*.json")
    code, out = aisp("expectations", "validate")
    told = [line for line in out.splitlines() if "wrong: " in line]
    assert code == 2 and len(told) == 2
    assert "claim 'pipeline_sequential.faster': why and source.text still say TO DO; write what it asks for" in told[0]
    document = json.loads(file.read_text())
    for claim in document["claims"]:
        claim["source"]["text"] = "twice the copies of the data sheet"
        claim["why"] = "copies run under compute"
    document["claims"][1]["why"] = f"{TO_DO}: later"
    file.write_text(json.dumps(document))
    (one,) = json.loads(aisp("expectations", "validate", "--json")[1])["files"]
    assert one["claims"] == 2
    assert one["error"].endswith(
        "claim 'pipeline_sequential.cuda_graph_faster': why still says TO DO; write what it asks for"
    )
    document["claims"][1]["why"] = "one launch in place of many"
    file.write_text(json.dumps(document))
    assert aisp("expectations", "validate")[0] == 0


def test_the_newest_run_says_variants_size_and_machine(aisp: Aisp, tmp_path: Path) -> None:
    run_folder(tmp_path / "aisp-runs" / "pipeline-1", key="h100")
    code, out = aisp("expectations", "new", "pipeline")
    assert code == 0 and "with the variants of run pipeline-1" in out
    (claim,) = load_file(tmp_path / "expectations" / "expectations_h100.json").claims
    assert (claim.id, claim.variant, claim.size) == ("pipeline.faster", "optimized", "default")


def test_a_file_of_ones_own_has_two_variants(aisp: Aisp, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    assert aisp("expectations", "new", "mine.py")[0] == 0
    (claim,) = load_file(tmp_path / "expectations" / "expectations_cpu_tiny_1.json").claims
    assert isinstance(claim, TimeClaim)
    assert (claim.workload, claim.baseline, claim.variant) == ("mine", "baseline", "optimized")


def test_a_second_workload_is_added_and_the_first_keeps_its_text(aisp: Aisp, tmp_path: Path) -> None:
    folder = put(tmp_path / "mine", "expectations_cpu_tiny_1.json", text(MECHANISM, key="cpu_tiny_1"))
    assert aisp("expectations", "new", "pipeline_sequential", "--expectations", folder)[0] == 0
    claims = json.loads((folder / "expectations_cpu_tiny_1.json").read_text(encoding="utf-8"))["claims"]
    assert claims[0] == MECHANISM and len(claims) == 3


def test_a_skeleton_is_judged_once_its_notes_are_written(aisp: Aisp, tmp_path: Path) -> None:
    """A template that nobody has filled in lets no run pass a gate; filled in, it asks only that a variant be faster."""
    run_at(tmp_path / "aisp-runs" / "pipeline-1")
    assert aisp("expectations", "new", "pipeline")[0] == 0
    code, out = aisp("check", tmp_path / "aisp-runs" / "pipeline-1")
    said = " ".join(out.split())
    assert code == 3 and "its why and source.text still say TO DO: nobody has decided this bound" in said
    (file,) = (tmp_path / "expectations").glob("*.json")
    file.write_text(file.read_text(encoding="utf-8").replace(TO_DO, "Said"), encoding="utf-8")
    code, out = aisp("check", tmp_path / "aisp-runs" / "pipeline-1")
    assert code == 0 and ">= 1 " in out


def test_accept_leaves_what_was_begun_by_hand(aisp: Aisp, tmp_path: Path) -> None:
    run_at(tmp_path / "aisp-runs" / "pipeline-1")
    assert aisp("expectations", "new", "pipeline")[0] == 0
    before = state(tmp_path)
    code, out = aisp("accept", "--yes")
    assert (code, state(tmp_path)) == (3, before)
    assert "delete a claim to have it measured" in " ".join(out.split())


# --- what is refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["pipeline_sequentia"], "did you mean 'pipeline_sequential'?"),
        (["sums"], "no run of 'sums' lies in aisp-runs"),
        (["absent.py"], "no run of 'absent' lies in aisp-runs"),
        (["pipeline_sequential", "--expectations", "absent"], "absent is not a folder; make it"),
        (["pipeline_sequential", "--expectations", "h100/expectations_h100.json"], "is for h100, but"),
        (["pipeline", "--expectations", "h100"], "has a claim 'pipeline.faster' already, which is not overwritten"),
        (["pipeline", "--expectations", "any"], "has a claim 'pipeline.faster' already, which is not overwritten"),
    ],
)
def test_each_refusal_is_a_sentence_and_writes_nothing(aisp: Aisp, tmp_path: Path, args: list[str], words: str) -> None:
    run_folder(tmp_path / "aisp-runs" / "pipeline-1", key="h100")
    put(tmp_path / "h100", "expectations_h100.json", text(TIME))
    put(tmp_path / "any", "expectations_any.json", text({**MECHANISM, "id": "pipeline.faster"}, key="any"))
    before = state(tmp_path)
    code, out = aisp("expectations", "new", *args)
    assert (code, state(tmp_path)) == (2, before), out
    assert words in out and len(out.splitlines()) == 1


def test_one_variant_is_no_speedup() -> None:
    with pytest.raises(UsageError, match="'baseline' alone"):
        skeleton("sums", ["baseline"], None)


def test_ids_are_plain() -> None:
    assert time_id("My Sums!", "optimized") == "my_sums.faster"
    assert time_id("sums", "CUDA graph") == "sums.cuda_graph_faster"


# --- the policy -----------------------------------------------------------------------------------------------------------------


def test_a_project_gets_its_folder_when_something_is_written(tmp_path: Path) -> None:
    place = place_to_write(None, "h100", tmp_path)
    assert (place.path, place.chosen, place.is_new_folder) == (
        tmp_path / "expectations" / "expectations_h100.json",
        "project",
        True,
    )
    assert list(tmp_path.iterdir()) == []
    place.add([time_claim()])
    assert [c.id for c in load_file(place.path).claims] == ["faster"]
    assert not place_to_write(None, "h100", tmp_path).is_new_folder


def test_a_checkout_is_its_own_project() -> None:
    place = place_to_write(None, "h200", PACKAGE_DIR.parent)
    assert (place.path, place.is_new_folder) == (PACKAGE_DIR / "expectations_h200.json", False)


@pytest.mark.parametrize("how", ["option", "file", "project"])
def test_an_installed_package_is_never_written(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pip puts it: without pyproject.toml beside."""
    package = put(tmp_path / "site-packages" / "aisp_trace" / "expectations", "expectations_h100.json", text(TIME))
    monkeypatch.setattr(write, "PACKAGE_DIR", package)
    asked = {"option": package, "file": package / "expectations_h100.json", "project": None}[how]
    with pytest.raises(InputError, match="installed aisp-trace, whose files the next version replaces"):
        place_to_write(asked, "h100", package.parent)


def test_a_claim_is_never_overwritten_and_a_changed_file_neither(tmp_path: Path) -> None:
    put(tmp_path / "expectations", "expectations_h100.json", text(TIME))
    place = place_to_write(None, "h100", tmp_path)
    with pytest.raises(UsageError, match=r"expectations_h100\.json has a claim 'pipeline.faster' already"):
        place.add([time_claim(id="pipeline.faster")])
    put(tmp_path / "expectations", "expectations_h100.json", text(TIME, MECHANISM))
    with pytest.raises(InputError, match="was changed meanwhile; nothing was written"):
        place.add([time_claim(id="other")])
    assert len(load_file(place.path).claims) == 2


def test_accept_makes_the_folder_only_when_it_writes(aisp: Aisp, tmp_path: Path) -> None:
    run = run_at(tmp_path / "pipeline-2", git={"commit": "a", "dirty": True, "changed": ["a.py"]})
    code, out = aisp("accept", run, "--yes")
    assert code != 0 and not (tmp_path / "expectations").exists()
    code, out = aisp("accept", run_at(tmp_path / "pipeline-3"), "--yes")
    file = tmp_path / "expectations" / "expectations_h100.json"
    assert code == 0 and f"Written to {file}." in out
    assert [c.id for c in load_file(file).claims] == ["pipeline.faster"]


def test_a_gate_from_nothing(aisp: Aisp, tmp_path: Path) -> None:
    """Runs, verdicts and a report beside the sources leave the tree clean, and the first accept has its place."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "train.py").write_text("", encoding="utf-8")
    for args in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *args], check=True, capture_output=True)
    assert main(["capture", "--baseline", "true 1", "--optimized", "true 2", "--profile", "none", "--rounds", "2"]) == 0
    (tmp_path / "junit.xml").write_text("", encoding="utf-8")
    assert host.git_state(tmp_path, root=False, environ={})["dirty"] is False
    (run,) = (tmp_path / "aisp-runs").glob("[!.]*")
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["git"]["changed"] == []
    shown = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True).stdout
    assert shown == "?? junit.xml\n"
