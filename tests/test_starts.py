"""The interval of a metric of a trace, from one recording or several."""

import pytest

from aisp_trace.expectations.judging.starts import SURE, interval_of_recordings


def test_recordings_of_one_start_do_not_narrow_the_interval() -> None:
    one = interval_of_recordings([0.8], 0.01)
    four = interval_of_recordings([0.8, 0.8, 0.8, 0.8], 0.01)
    assert one == four == pytest.approx((0.8 - SURE * 0.01, 0.8 + SURE * 0.01, False))


def test_recordings_of_several_starts_narrow_the_interval_by_the_root_of_their_number() -> None:
    four = interval_of_recordings([0.8, 0.8, 0.8, 0.8], 0.01, apart=True)
    assert four == pytest.approx((0.8 - SURE * 0.005, 0.8 + SURE * 0.005, False))


def test_recordings_further_apart_than_usual_widen_the_interval() -> None:
    wider = interval_of_recordings([0.78, 0.80, 0.82], 0.01)  # their own 0.02 counts
    assert wider == pytest.approx((0.8 - SURE * 0.02, 0.8 + SURE * 0.02, False))
    wider = interval_of_recordings([0.78, 0.80, 0.82], 0.01, apart=True)
    assert wider == pytest.approx((0.8 - SURE * 0.02 / 3**0.5, 0.8 + SURE * 0.02 / 3**0.5, False))


def test_recordings_too_far_apart_for_the_expected_spread_contradict_it() -> None:
    student = 9.925 * 0.1 / 3**0.5
    low, high, contradicted = interval_of_recordings([0.70, 0.80, 0.90], 0.01, apart=True)
    assert contradicted
    assert (low, high) == pytest.approx((0.8 - student, 0.8 + student))
    low, high, contradicted = interval_of_recordings([0.70, 0.80, 0.90], 0.01)
    both = (student**2 + (SURE * 0.01) ** 2) ** 0.5
    assert contradicted
    assert (low, high) == pytest.approx((0.8 - both, 0.8 + both))
