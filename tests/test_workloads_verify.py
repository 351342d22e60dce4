"""Comparison with the reference, one defect at a time."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.traces.run import Output
from aisp_trace.workloads.interface import Tolerance
from aisp_trace.workloads.verify import compare, poison, poisoned, worse

TOLERANCE = Tolerance(bound=1e-3, reason="because")


def reference() -> list[torch.Tensor]:
    return [torch.full((2, 3), float(i + 1), dtype=torch.float64) for i in range(3)]


def test_equal_outputs_have_no_error() -> None:
    output = compare([r.float() for r in reference()], reference(), TOLERANCE)
    assert (output.error, output.poisoned, output.ok) == (0.0, 0, True)
    assert output.reference == "float64 on cpu, from the same inputs; tolerance: because"


def test_the_error_is_the_worst_tensors_own_not_the_average() -> None:
    outputs = [r.clone() for r in reference()]
    outputs[0] *= 1.01  # 1 % of the smallest tensor; of all three together it would be 0.27 %
    output = compare(outputs, reference(), TOLERANCE)
    assert output.error == pytest.approx(0.01)
    assert not output.ok


def test_with_a_tolerance_for_each_the_one_that_uses_most_of_its_own_is_told() -> None:
    outputs = [r.clone() for r in reference()]
    outputs[0] *= 1.01
    outputs[2] *= 1.0001
    loose, tight, exact = (Tolerance(bound, word) for bound, word in ((0.1, "loose"), (1e-5, "tight"), (0.0, "exact")))
    output = compare(outputs, reference(), [loose, exact, tight])
    assert output.error == pytest.approx(1e-4)
    assert (output.tolerance, output.ok) == (1e-5, False)
    assert output.reference.endswith("tolerance: tight")
    output = compare(outputs, reference(), [loose, exact, loose])
    assert output.error == pytest.approx(1e-2)
    assert (output.tolerance, output.ok) == (0.1, True)
    with pytest.raises(ValueError, match="2 tolerances and more outputs"):
        compare(outputs, reference(), [loose, exact])


@pytest.mark.parametrize("tolerance", [TOLERANCE, [TOLERANCE] * 3])
@pytest.mark.parametrize("defect", ["missing", "surplus", "misshapen", "nan", "inf"])
def test_a_defect_that_has_no_size_gives_a_null_error(defect: str, tolerance: Tolerance | list[Tolerance]) -> None:
    outputs = [r.float() for r in reference()]
    if defect == "missing":
        del outputs[-1]
    elif defect == "surplus":
        outputs.append(outputs[0])
    elif defect == "misshapen":
        outputs[1] = outputs[1].T
    else:
        outputs[1][0, 0] = float(defect)
    output = compare(outputs, reference(), tolerance)
    assert (output.error, output.poisoned, output.ok) == (None, 0, False)


def test_nothing_to_compare_is_not_a_success() -> None:
    assert not compare([], [], TOLERANCE).ok


def test_a_zero_reference_is_met_only_by_zero() -> None:
    zero = [torch.zeros(2, dtype=torch.float64)]
    assert compare([torch.zeros(2)], zero, TOLERANCE).ok
    assert compare([torch.full((2,), 1e-30)], zero, TOLERANCE).error is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_unwritten_elements_are_told_from_computed_nans(dtype: torch.dtype) -> None:
    tensor = torch.ones(4, dtype=dtype)
    poison([tensor])
    assert bool(torch.isnan(tensor).all())
    tensor[0] = 1.0
    tensor[1] = float("nan")
    assert poisoned(tensor) == 2
    assert poisoned(tensor.clone()) == 2, "a copy of an unwritten element is still unwritten"
    assert compare([tensor], [torch.ones(4, dtype=torch.float64)], TOLERANCE).poisoned == 2


def test_integer_outputs_are_compared_exactly() -> None:
    exact = Tolerance(bound=0.0, reason="tokens are equal or not")
    tokens = torch.tensor([3, 1, 2])
    assert compare([tokens], [tokens.double()], exact).ok
    assert not compare([tokens], [torch.tensor([3.0, 1.0, 3.0], dtype=torch.float64)], exact).ok
    poison([tokens])
    assert poisoned(tokens) == 3


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int16, torch.complex64])
def test_types_without_an_improbable_value_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="cannot be poisoned"):
        poison([torch.zeros(2, dtype=dtype)])


def test_a_reference_of_lower_precision_is_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        compare([torch.ones(2)], [torch.ones(2)], TOLERANCE)


def test_the_worse_of_two_comparisons_decides() -> None:
    def output(error: float | None, poisoned: int = 0) -> Output:
        ok = error is not None and error < 1 and poisoned == 0
        return Output(error=error, tolerance=1.0, reference="", poisoned=poisoned, ok=ok)

    strict, wide = Output(0.9, 1.0, "", 0, True), Output(1.8, 3.0, "", 0, True)
    assert worse(strict, wide) == worse(wide, strict) == strict, "by the share of its own tolerance"
    good, wrong, unwritten = output(0.1), output(math.pi), output(None, poisoned=3)
    for a, b, expected in ((good, wrong, wrong), (wrong, unwritten, unwritten), (output(0.2), good, output(0.2))):
        assert worse(a, b) == worse(b, a) == expected
