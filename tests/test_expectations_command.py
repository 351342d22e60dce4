"""`aisp-trace expectations show|validate|diff|schema`: reading what was written down."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len as display_width

from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.diff import differences
from aisp_trace.expectations.claims.parse import schema
from aisp_trace.expectations.model import ANY, Bound
from aisp_trace.tests.judging.build import mechanism, time_claim
from aisp_trace.tests.test_expectations_files import MECHANISM, TIME, put, text

Aisp = Callable[..., tuple[int, str]]


@pytest.fixture
def aisp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aisp:
    monkeypatch.chdir(tmp_path)

    def run(*args: str | Path) -> tuple[int, str]:
        code = main(["expectations", *map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    put(tmp_path / "expectations", "expectations_any.json", text(MECHANISM, key=ANY))
    put(tmp_path / "expectations", "expectations_a100.json", text({**TIME, "workload": "other"}, key="a100"))
    return put(tmp_path / "expectations", "expectations_h100.json", text(TIME))


def test_show_gives_bounds_sources_and_reasons(aisp: Aisp, folder: Path) -> None:
    code, out = aisp("show", "pipeline", "--hardware", "h100")
    assert code == 0
    assert [line for line in out.splitlines() if not line.startswith("expectations")] == [
        "",
        "any machine, 1 claim",
        "pipeline.hidden",
        "  overlap.efficiency copy|compute of optimized  >= 0.5",
        "    why: copies run under compute",
        "    definition: by construction",
        "",
        "h100, 1 claim",
        "pipeline.faster [default]",
        "  speedup of optimized over baseline, by the median  1.5 .. 2.5",
        "  time of baseline  <= 25 ms",
        "  time of optimized  <= 12.5 ms",
        "    why: copies are hidden",
        "    measured pipeline-0: median of 8 rounds",
    ]
    assert all(display_width(line) <= 80 for line in out.splitlines() if str(folder) not in line)
    assert "a100, 1 claim\n" in aisp("show")[1]


def test_show_json_holds_the_claims_as_they_stand(aisp: Aisp, folder: Path) -> None:
    code, out = aisp("show", "--json", "--hardware", "h100")
    found = json.loads(out)
    assert (code, found["schema"], found["chosen"]) == (0, "aisp-trace/expectations-list/1", "project")
    assert {f["hardware_key"]: f["claims"] for f in found["files"]} == {
        "any": [MECHANISM],
        "h100": [{**TIME, "statistic": "median"}],
    }


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show", "pipelin"], "did you mean 'pipeline'?"),
        (["show", "--hardware", "h10"], "did you mean 'h100'?"),
        (["show", "--hardwear", "h100"], "did you mean '--hardware'?"),
        (["shw"], "did you mean 'show'?"),
        (["diff", "absent", "expectations"], "absent does not exist"),
    ],
)
def test_wrong_usage_is_one_sentence(aisp: Aisp, folder: Path, args: list[str], words: str) -> None:
    code, out = aisp(*args)
    assert code == 2
    assert words in out and len(out.splitlines()) == 1


def test_without_an_action_the_actions_are_listed(aisp: Aisp) -> None:
    assert aisp()[0] == 2
    code, out = aisp("--help")
    assert code == 0
    assert [line.split()[0] for line in out.split("Commands:\n")[1].splitlines() if line[2:3].strip()] == [
        "show",
        "validate",
        "new",
        "diff",
        "migrate",
        "metrics",
        "schema",
    ]


def test_validate_reads_every_file_and_tells_all_errors(aisp: Aisp, folder: Path, tmp_path: Path) -> None:
    code, out = aisp("validate")
    assert code == 0
    assert [line.split()[-2:] for line in out.splitlines()] == [["1", "claim"]] * 3
    put(folder, "expectations_b200.json", text({**TIME, "ration": 1}, key="b200"))
    put(folder, "expectations_l4.json", text(TIME, key="h100"))
    code, out = aisp("validate", folder)
    assert code == 2
    assert "unknown key 'ration'; did you mean 'ratio'?" in out
    assert "expectations_l4.json holds hardware_key 'h100'; rename the file" in out
    code, out = aisp("validate", "--json", folder)
    errors = [f["error"] for f in json.loads(out)["files"]]
    assert (code, sum(e is None for e in errors), len(errors)) == (2, 3, 5)
    put(folder, "expectations_b200.json", text({**TIME, "ration": 1, "why": 3}, key="b200"))
    out = aisp("validate", folder)[1]
    assert (
        sum(line.startswith("wrong: ") and "expectations_b200.json: claims[0]" in line for line in out.splitlines())
        == 2
    )
    alone = put(tmp_path / "drafts", "draft.json", text(TIME)) / "draft.json"  # any name will do for a file by itself
    assert aisp("validate", alone)[0] == 0


def test_validate_sees_what_only_two_files_together_do_wrong(aisp: Aisp, folder: Path) -> None:
    put(folder, "expectations_h100.json", text(TIME, MECHANISM))
    assert aisp("validate", folder / "expectations_h100.json")[0] == 0
    code, out = aisp("validate", folder)
    assert code == 2
    assert "two claims have the id 'pipeline.hidden'" in out


def test_validate_includes_wanted_claims(aisp: Aisp, folder: Path) -> None:
    put(folder, "wanted_claims.json", '{"schema": "aisp-trace/wanted-claims/1", "claim": []}')
    code, out = aisp("validate")
    assert code == 2
    assert "unknown key 'claim'; did you mean 'claims'?" in out


def test_diff_of_two_files_says_which_way(aisp: Aisp, tmp_path: Path) -> None:
    changed = {**TIME, "ratio": {"min": 1.6, "max": 3}, "max_ms": {"baseline": 30, "optimized": 12}}
    one = put(tmp_path / "a", "one.json", text(TIME)) / "one.json"
    two = put(tmp_path / "a", "two.json", text(changed, MECHANISM)) / "two.json"
    code, out = aisp("diff", one, two)
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()[2:-1]] == ["tighter", "looser", "tighter", "new"]
    assert out.splitlines()[-1] == "4 differences, 1 of them asks for less."
    rows = json.loads(aisp("diff", one, two, "--json")[1])["differences"]
    assert rows[1] == {
        "hardware_key": "h100",
        "claim": "pipeline.faster",
        "part": "ms baseline",
        "old": "<= 25",
        "new": "<= 30",
        "change": "looser",
        "asks_less": True,
    }
    assert aisp("diff", one, one)[1] == "No claim differs.\n"


def test_diff_against_what_is_committed(aisp: Aisp, folder: Path, tmp_path: Path) -> None:
    assert "git cannot say what is committed" in aisp("diff", folder)[1]
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for args in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *args], check=True, capture_output=True)
    assert aisp("diff", folder)[1] == aisp("diff")[1] == "No claim differs.\n"
    put(folder, "expectations_h100.json", text({**TIME, "ratio": {"min": 1.2}}))
    for asked in ((), (folder,), (folder / "expectations_h100.json",)):
        code, out = aisp("diff", *asked)
        assert code == 0 and "looser" in out and "1 difference, 1 of them asks for less." in out
    put(folder, "expectations_b200.json", text(TIME, key="b200"))
    assert "is not committed" in aisp("diff", folder / "expectations_b200.json")[1]


def test_diff_reads_a_commit_where_no_such_file_exists(aisp: Aisp, folder: Path, tmp_path: Path) -> None:
    """Bounds of 1.5 in the first commit, 1.4 in the second, 1.2 in the work tree."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True, capture_output=True)
    for least in (1.5, 1.4):
        put(folder, "expectations_h100.json", text({**TIME, "ratio": {"min": least}}))
        for args in (["add", "."], ["commit", "-q", "-m", "x"]):
            subprocess.run([*git, *args], check=True, capture_output=True)
    file = folder / "expectations_h100.json"
    put(folder, file.name, text({**TIME, "ratio": {"min": 1.2}}))

    def ratio(*asked: str | Path) -> tuple[str, str]:
        code, out = aisp("diff", *asked, "--json")
        assert code == 0, out
        (row,) = json.loads(out)["differences"]
        return row["old"], row["new"]

    first, second, now = ">= 1.5", ">= 1.4", ">= 1.2"
    assert ratio("HEAD~1") == ratio("HEAD~1", folder) == ratio("HEAD~1", file) == (first, now)
    assert ratio("HEAD") == ratio() == (second, now)
    assert ratio("HEAD~1", "HEAD") == (first, second)
    assert ratio(file, "HEAD~1") == (now, first)
    code, out = aisp("diff", "HEAD~7")
    assert (
        code == 2 and "HEAD~7 does not exist; name an expectation file, a folder of them, or a commit of git's" in out
    )
    (tmp_path / "HEAD").mkdir()
    code, out = aisp("diff", "HEAD")
    assert code == 2 and "HEAD holds no file expectations_*.json" in out, "a folder of that name is meant"


def test_diff_without_a_name_needs_expectations_here(aisp: Aisp) -> None:
    code, out = aisp("diff")
    assert code == 2
    assert "there is no ./expectations/expectations_*.json to compare with git's last commit; name a file" in out


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (mechanism(low=0.5), mechanism(low=0.6), ["tighter"]),
        (mechanism(low=0.5), mechanism(low=0.4), ["looser"]),
        (mechanism(high=0.5), mechanism(high=0.4), ["tighter"]),
        (mechanism(low=0.5), mechanism(high=0.9), ["looser"]),  # one end falls away
        (mechanism(low=0.5), mechanism(low=0.6, high=0.9), ["tighter"]),
        (mechanism(low=0.5, high=0.9), mechanism(low=0.6, high=0.95), ["looser"]),  # either end decides
        (mechanism(low=0.5), mechanism(low=0.5), []),
        (mechanism(low=0.5), mechanism(low=0.5, why="other words"), ["reworded"]),
        (mechanism(low=0.5), mechanism(low=0.5, of="h2d|compute"), ["other claim"]),
        (mechanism(low=0.5, id="faster"), time_claim(), ["other claim"]),
        (time_claim(1.5, 3), time_claim(1.5, 9), ["moved"]),  # above a speedup's band is not a failure
        (time_claim(1.5, 3), time_claim(1.4, 2), ["looser"]),
        (time_claim(base_ms=20), time_claim(base_ms=21), ["looser"]),
        (time_claim(), time_claim(min_items_per_s={"optimized": 3}), ["new"]),
        (time_claim(min_items_per_s={"optimized": 3}), time_claim(), ["removed"]),
    ],
)
def test_directions(old: Any, new: Any, expected: list[str]) -> None:
    found = differences([old], [new])
    assert [d.direction for d in found] == expected
    assert [d.asks_less for d in found] == [d in ("looser", "removed", "other claim") for d in expected]
    assert not Bound(None, 1).holds(2, 2)


def test_schema_is_printed(aisp: Aisp) -> None:
    code, out = aisp("schema")
    assert (code, json.loads(out)) == (0, schema())


# --- migrate ------------------------------------------------------------------------------------------------------------


def test_migrating_keeps_every_claims_meaning_and_is_done_once(aisp: Aisp, folder: Path) -> None:
    file = folder / "expectations_h100.json"
    before = file.read_text()
    said = aisp("migrate", file)
    assert said == (0, f"{file}: would get schema 2; 1 claim, 1 of which bounds times by the median; --yes does it\n")
    assert file.read_text() == before
    claims = aisp("show", "--json", "--hardware", "h100")[1]
    assert aisp("migrate", file, "--yes")[0] == 0
    assert json.loads(file.read_text())["schema"] == "aisp-trace/expectations/2"
    assert aisp("show", "--json", "--hardware", "h100")[1] == claims
    assert aisp("migrate", file, "--yes") == (0, f"{file}: has the present schema already\n")


def test_a_file_whose_claims_need_no_word_more_keeps_its_layout(aisp: Aisp, folder: Path) -> None:
    file = folder / "expectations_any.json"
    laid_out = json.dumps(json.loads(file.read_text()), indent=5)
    file.write_text(laid_out)
    assert aisp("migrate", file, "--yes") == (0, f"{file}: now has schema 2; 1 claim\n")
    assert file.read_text() == laid_out.replace("expectations/1", "expectations/2")


def test_migrate_refuses_what_is_no_expectation_file_and_touches_no_other(aisp: Aisp, folder: Path) -> None:
    put(folder, "expectations_b200.json", text({**TIME, "ration": 1}, key="b200"))
    before = {file: file.read_text() for file in folder.iterdir()}
    code, out = aisp("migrate", folder, "--yes")
    assert code == 2
    assert "unknown key 'ration'" in out
    assert {file: file.read_text() for file in folder.iterdir()} == before
