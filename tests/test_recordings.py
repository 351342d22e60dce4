"""Several recordings of each variant: made in turn, judged together, carried along, and asked for by `accept`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisp_trace.analyze.result import Analysis
from aisp_trace.cli.main import main
from aisp_trace.expectations.accepting.accept import propose
from aisp_trace.expectations.accepting.occasions import Occasion
from aisp_trace.expectations.judging.admissible import examine
from aisp_trace.expectations.judging.evidence import Evidence, Recorded, gather
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.judging.verdict import Verdict
from aisp_trace.expectations.model import Bound, Claim, ExpectationFile, MechanismClaim
from aisp_trace.tests.judging.build import (
    FAST_MS,
    HIDDEN,
    MS,
    SERIAL,
    analysis,
    evidence,
    jittered,
    lasted,
    mechanism,
    recorded,
    run_folder,
)
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.run import MANIFEST, Run, load_run, to_json, write_json

FAKE = Path(__file__).with_name("fake_workload.py")
TRACED = tuple(round(FAST_MS[0] * MS) for _ in range(10))


def hidden(*efficiencies: float, **changes: Any) -> Evidence:
    """The default run, with recordings of the optimized variant that hide these parts of 500 ns of copies."""
    traces = [analysis(overlap={"copy|compute": (500, 500, round(500 * e))}, **changes) for e in efficiencies]
    default = evidence()
    optimized = replace(
        default.variants["optimized"], analysis=traces[0], again=tuple(Recorded(t, TRACED) for t in traces[1:])
    )
    return replace(default, variants={**default.variants, "optimized": optimized})


def verdict(claim: Claim, shown: Evidence) -> Verdict:
    return judge([ExpectationFile("h100", (claim,))], shown)[0]


# --- judging ------------------------------------------------------------------------------------------------------------


def test_recordings_of_one_start_that_agree_are_as_far_from_the_next_start_as_one() -> None:
    claim = mechanism(low=0.75)
    one, three = (verdict(claim, hidden(*(0.8,) * n)) for n in (1, 3))
    assert (one.status, one.n, one.recorded) == ("met", 1, (0.8,))
    assert (three.status, three.n, three.sample, three.recorded) == ("met", 3, "recordings", (0.8,) * 3)
    assert (one.low, one.high) == pytest.approx((three.low, three.high))
    assert three.reason.endswith("; from 3 recordings, with the usual spread between starts (0.011)")


def test_one_that_shows_none_does_not_prove_that_there_is_none() -> None:
    """0 of 500 ns: the next start may show a little, and Wilson's end says how much."""
    upper = verdict(mechanism(high=0.01), hidden(0.0)).high
    assert upper == pytest.approx(0.00489, abs=1e-5)
    assert verdict(mechanism(high=0.01), hidden(0.0)).status == "met"
    assert verdict(mechanism(high=0.004), hidden(0.0)).status == "inconclusive"


def test_the_value_is_the_mean_and_recordings_far_apart_say_so() -> None:
    found = verdict(mechanism(low=0.5), hidden(0.6, 0.8, 1.0))
    assert found.value == pytest.approx(0.8)
    assert found.status == "inconclusive"  # Student's interval of three so unlike values holds everything
    assert "from 3 recordings, which lie too far apart for the usual spread between starts" in found.reason
    assert verdict(mechanism(low=0.9), hidden(0.5, 0.5, 0.5)).status == "missed"


def test_each_recording_is_asked_whether_it_is_trusted() -> None:
    shown = hidden(0.8, 0.8)
    wrong = analysis(overlap={"copy|compute": (500, 500, 400)}, distrust={"overlap": ("partial", "lost launches")})
    optimized = replace(shown.variants["optimized"], again=(Recorded(wrong, TRACED),))
    found = verdict(mechanism(low=0.5), replace(shown, variants={**shown.variants, "optimized": optimized}))
    assert found.status == "invalid"
    assert "lost launches (trace 2 of optimized)" in found.reason


def test_a_recording_that_is_not_believed_leaves_nothing_to_judge() -> None:
    shown = hidden(0.8, 0.8)
    optimized = replace(shown.variants["optimized"], again=(Recorded(None, TRACED),))
    found = verdict(mechanism(low=0.5), replace(shown, variants={**shown.variants, "optimized": optimized}))
    assert (found.status, found.reason) == ("inconclusive", "the run holds no trace 2 of optimized")


@pytest.mark.parametrize(
    ("second", "bound", "status"),
    [(10, 10, "met"), (11, 10, "inconclusive"), (11, 5, "missed"), (9, 10, "inconclusive")],
)
def test_counts_are_the_programs_only_if_all_recordings_agree(second: int, bound: int, status: str) -> None:
    def counted(n: int) -> Any:
        return analysis(kinds={"h2d": (100, 10**7), "compute": (10 * n, 0), "d2h": (100, 10**7)})

    shown = evidence()
    optimized = replace(shown.variants["optimized"], analysis=counted(10), again=(Recorded(counted(second), TRACED),))
    shown = replace(shown, variants={**shown.variants, "optimized": optimized})
    claim = mechanism("ops.count", low=bound, high=bound, of="compute", unit="count")
    found = verdict(claim, shown)
    assert found.status == status, found.reason
    assert ("the recordings count differently (10, " in found.reason) is (second != 10)


def test_moved_bytes_are_checked_in_each_recording() -> None:
    shown = hidden(0.8, 0.8)
    more = analysis(kinds={"h2d": (100, 2 * 10**7), "compute": (100, 0), "d2h": (100, 10**7)})
    optimized = replace(shown.variants["optimized"], again=(Recorded(more, TRACED),))
    found = verdict(mechanism(low=0.5), replace(shown, variants={**shown.variants, "optimized": optimized}))
    assert found.status == "invalid"
    assert "h2d" in found.reason


def test_a_ratio_of_two_variants_pairs_their_recordings() -> None:
    shown = recorded(evidence(), 3)
    claim = mechanism("ops.count", low=1, high=1, of="compute", unit="ratio", against="baseline")
    assert verdict(claim, shown).status == "met"


# --- accepting ----------------------------------------------------------------------------------------------------------


def proposed(shown: Evidence, tmp_path: Path, claim: MechanismClaim) -> Any:
    manifest = load_run(run_folder(tmp_path / "pipeline-1")).manifest
    clean = replace(manifest, git={"commit": "0123456789abcdef", "dirty": False})
    return propose([Occasion(shown, clean)], ExpectationFile("h100", ()), wanted=[claim], only=[claim.id])


def test_accept_takes_a_bound_from_three_recordings_and_a_count_from_one(tmp_path: Path) -> None:
    wish = mechanism("overlap.hidden", low=float("-inf"), id="pipeline.hidden")
    for recordings, written in ((1, 0), (2, 0), (3, 1)):
        found = proposed(recorded(evidence(), recordings), tmp_path / str(recordings), wish)
        assert (len(found.claims), found.refusals) == (written, ())
    note = proposed(evidence(), tmp_path / "note", wish).notes[0]
    assert "capture with --recordings 3, or name 3 runs" in note
    count = mechanism("ops.count", low=float("-inf"), of="compute", unit="count", id="pipeline.ops")
    assert len(proposed(evidence(), tmp_path / "count", count).claims) == 1


def test_the_spread_of_the_recordings_is_written_down(tmp_path: Path) -> None:
    wish = mechanism(low=float("-inf"), id="pipeline.hidden")
    (claim,) = proposed(hidden(0.78, 0.80, 0.82), tmp_path, wish).claims
    assert (claim.provenance.starts, claim.provenance.between) == (1, 0.02)
    assert claim.source.text == "accepted: 0.8 (0.78 to 0.82) over 3 recordings"


# --- the run folder -----------------------------------------------------------------------------------------------------


def twice(folder: Path) -> Run:
    """The default run, whose manifest says that each variant was recorded twice."""
    run = load_run(run_folder(folder))
    variants = []
    for variant in run.manifest.variants:
        first = variant.recording
        assert first is not None
        assert first.result is not None
        (own,) = first.result.variants
        times = jittered(own.iterations_ns[0] / MS, "again", variant.name)
        second = replace(
            first,
            trace=f"{variant.name}/again_1/trace.sqlite",
            trace_sha256=None,
            wall_ns=lasted("again", variant.name, about_s=10),
            result=replace(first.result, variants=(replace(own, iterations_ns=times),)),
        )
        variants.append(replace(variant, again=(second,)))
    return Run(folder, replace(run.manifest, variants=variants))


def later(first: Analysis) -> Analysis:
    """An analysis of another recording: its operations took a little longer."""
    return replace(first, kinds=first.kinds.with_columns(pl.col("union_ns") + 7))


def test_admissibility_is_asked_of_every_recording(tmp_path: Path) -> None:
    run = twice(tmp_path / "pipeline-1")
    analyses = {"baseline": SERIAL, "optimized": HIDDEN}
    again = {name: [later(found)] for name, found in analyses.items()}
    assert examine(gather(run, analyses, again)) == ()

    def broken(**changes: Any) -> str:
        variants = [replace(v, again=(replace(v.again[0], **changes),)) for v in run.manifest.variants]
        shown = gather(Run(run.path, replace(run.manifest, variants=variants)), analyses, again)
        return "; ".join(f.text for f in examine(shown))

    assert "recording 2 of baseline ended with exit code 1" in broken(exit_code=1)
    assert "recording 2 of optimized are one trace" in broken(trace="optimized/trace.sqlite")
    assert "recording 2 of baseline asked for no variant" in broken(command=["python", "x.py"])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda v: v["again"][0].update(trace="../elsewhere.sqlite"), "variants[0].again[0].trace"),
        (lambda v: v["again"][0].update(kind_file="/etc/passwd"), "variants[0].again[0].kind_file"),
        (lambda v: v.update(recording=None), "variants[0].again"),
        (lambda v: v.update(again=5), "variants[0].again"),
    ],
)
def test_a_manifest_that_names_other_files_is_refused(tmp_path: Path, change: Any, fault: str) -> None:
    run = twice(tmp_path / "pipeline-1")
    document = to_json(run.manifest)
    document = json.loads(json.dumps(document))
    change(document["variants"][0])
    write_json(run.path / MANIFEST, document)
    with pytest.raises(InputError) as raised:
        load_run(run.path)
    assert fault in str(raised.value)


def test_older_manifests_have_one_recording(tmp_path: Path) -> None:
    run = load_run(run_folder(tmp_path / "pipeline-1"))
    document = json.loads(json.dumps(to_json(run.manifest)))
    for variant in document["variants"]:
        del variant["again"]
    write_json(run.path / MANIFEST, document)
    assert [len(v.recordings) for v in load_run(run.path).manifest.variants] == [1, 1]


# --- the commands -------------------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_captured_checked_bundled_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    words = [str(FAKE), "--recorder", "torch", "--device", "cpu", "--rounds", "1", "--iterations", "2"]
    assert main(["capture", *words, "--recordings", "2"]) == 0
    assert "recording baseline (2/2)" in capsys.readouterr().err
    ran = (tmp_path / "log").read_text().splitlines()
    assert ran[1:] == ["baseline trace", "optimized trace"] * 2, "variants in turn, so that drift meets both"
    (folder,) = (tmp_path / "aisp-runs").glob("[!.]*")
    traces = [[r.trace for r in v.recordings] for v in load_run(folder).manifest.variants]
    assert traces[0] == ["baseline/trace.json.gz", "baseline/again_1/trace.json.gz"]
    assert all((folder / trace).is_file() for found in traces for trace in found)

    claims = tmp_path / "expectations"
    claims.mkdir()
    document = {
        "schema": "aisp-trace/expectations/2",
        "hardware_key": "any",
        "claims": [
            {
                "type": "mechanism",
                "id": "fake.instances",
                "workload": "fake_workload",
                "variant": "optimized",
                "metric": "stage.instances",
                "stage": "load",
                "bound": {"min": 1, "max": 1},
                "unit": "count",
                "why": "One load an iteration.",
                "source": {"kind": "definition", "text": "the program"},
            }
        ],
    }
    (claims / "expectations_any.json").write_text(json.dumps(document))
    code = main(["check", str(folder), "--json"])
    (found,) = json.loads(capsys.readouterr().out)["verdicts"]
    assert found["claim"] == "fake.instances"
    assert "apart from that, 1, the total of 2 iterations" in found["reason"], "the fake's times are made up"
    assert found["recorded"] == [1.0, 1.0]

    bundle = tmp_path / "run.tar.gz"
    assert main(["bundle", str(folder), "-o", str(bundle)]) in (0, code)
    assert main(["bundle", "verify", str(bundle)]) == code
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recordings", "0"], "--recordings is 0; it must be from 1 to 10"),
        (["--recordings", "11"], "--recordings is 11; it must be from 1 to 10"),
        (["--recordings", "2", "--profile", "none"], "--profile none, which records nothing"),
    ],
)
def test_refusals(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["capture", "pipeline_sequential", "--device", "cpu", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_single_command_is_recorded_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "--recordings", "2", "--", "python", "x.py"]) == 2
    assert "--recordings was given with a command of your own, which runs once" in capsys.readouterr().err


def test_bounds_read_back_from_their_source_text_are_not_taken_for_edited(tmp_path: Path) -> None:
    from aisp_trace.expectations.judging.admissible import CLAIM_ROWS

    wish = mechanism(low=float("-inf"), id="pipeline.hidden")
    (claim,) = proposed(hidden(0.78, 0.80, 0.82), tmp_path, wish).claims
    assert list(CLAIM_ROWS["edited bound"](claim, evidence())) == []
    looser = replace(claim, bound=Bound(0.5, None))
    assert [f.grade for f in CLAIM_ROWS["edited bound"](looser, evidence())] == ["objection"]
