"""Kernel tasks: required work by hand, eager PyTorch within tolerance of the reference, fresh inputs, search spaces."""

from __future__ import annotations

import math
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aisp_trace.kernels import space
from aisp_trace.kernels import task as tasks
from aisp_trace.kernels.task import DTYPES, KINDS, ROUNDOFF, Operand, Shape, Task
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.tests.oracle.deviation import deviation

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

TASKS = tuple(find(name) for name in NAMES)

SMALL = 1 << 18
"""Bytes in float32 of the largest shape that is tried here."""


def small(task: Task) -> list[Shape]:
    return [shape for shape in task.shapes if task.bytes(shape, "float32") <= SMALL]


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- required work, by hand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "nbytes", "flops"),
    [
        # x and y in, out out; a product and a sum
        ("saxpy", {"count": 5}, "float32", 3 * 5 * 4, 10),
        # x in, out out, weight in once
        ("rmsnorm", {"rows": 2, "columns": 3}, "bfloat16", (6 + 6 + 3) * 2, 24),
        ("softmax", {"rows": 2, "columns": 3}, "float16", (6 + 6) * 2, 30),
        ("bias_gelu", {"rows": 2, "columns": 3}, "float32", (6 + 6 + 3) * 4, 54),
        # x, residual, out and summed; weight and bias
        ("layernorm_residual", {"rows": 2, "columns": 3}, "bfloat16", (4 * 6 + 2 * 3) * 2, 48),
        # 2 tokens of 3 heads of 4 pairs: 48 elements in, 48 out; cosine and sine of 8 angles in float32
        ("rotary", {"tokens": 2, "heads": 3, "pairs": 4}, "float16", 2 * 48 * 2 + 2 * 8 * 4, 6 * 24),
        # 2 sequences of 3 blocks ask for 6 of 10 pages, each of 4 tokens of 5: pages in, table in, pages out
        ("paged_gather", {"pages": 10, "sequences": 2, "blocks": 3, "page": 4, "width": 5}, "float32", 960 + 24, 0),
        # and for 6 of 2 pages: those two are read once
        (
            "paged_gather",
            {"pages": 2, "sequences": 2, "blocks": 3, "page": 4, "width": 5},
            "float32",
            160 + 24 + 480,
            0,
        ),
        # a byte in, two bytes out, a scale a row
        ("int8_dequantise", {"rows": 2, "columns": 3}, "bfloat16", 6 + 2 * 4 + 6 * 2, 6),
        ("column_sum", {"rows": 4, "columns": 3}, "float16", 12 * 2 + 3 * 2, 9),
    ],
)
def test_bytes_and_flops(name: str, shape: Shape, dtype: str, nbytes: int, flops: int) -> None:
    task = find(name)
    assert task.bytes(shape, dtype) == nbytes
    assert task.flops(shape, dtype) == flops


def test_tasks_are_complete() -> None:
    for task in TASKS:
        assert task.name in NAMES and set(task.dtypes) == set(DTYPES)
        assert task.bytes(task.shapes[0], task.dtypes[0]) >= 4 * 50_000_000, "the default is several times an H200's L2"
        assert len(small(task)) >= 4, task.name
        assert any(all(size == 1 for size in shape.values()) for shape in task.shapes)
        assert any(any(size % 2 and size > 2 for size in shape.values()) for shape in task.shapes)
        assert all(set(shape) == set(task.sizes) for shape in task.shapes)
        assert set(task.tolerances) == set(task.dtypes)
        assert all(task.because in tolerance.reason for tolerance in task.tolerances.values())


# -- eager against the reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_eager_is_within_tolerance_of_the_reference(task: Task, kind: str) -> None:
    for dtype in task.dtypes:
        for shape in small(task):
            inputs = task.draw(generator(), shape, dtype, "cpu", kind)
            wanted, got = task.reference(inputs, shape), task.eager(inputs, shape, dtype)
            for operand in task.outputs:
                reference, found = wanted[operand.name], got[operand.name]
                assert reference.dtype is torch.float64 and found.dtype is getattr(torch, operand.dtype_in(dtype))
                assert tuple(reference.shape) == tuple(found.shape) == operand.shape(shape)
                apart = deviation(found, reference)
                assert apart.within(task.tolerances[dtype]), (dtype, dict(shape), operand.name, apart)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_is_wrong_is_not_within_tolerance(task: Task) -> None:
    """Zeros, a skipped last element, and results of the next lower precision."""
    shape = next(s for s in small(task) if task.bytes(s, "float32") > 4000)
    for dtype in task.dtypes:
        reference = task.reference(task.draw(generator(), shape, dtype, "cpu"), shape)[task.outputs[0].name]
        right = reference.to(getattr(torch, dtype))
        skipped = right.clone()
        skipped.view(-1)[-1] = skipped.view(-1)[-1] + 1
        wrong = [torch.zeros_like(right), skipped]
        if dtype == "float32":
            wrong.append(reference.half().float())
        for found in wrong:
            assert not deviation(found, reference).within(task.tolerances[dtype])
        assert deviation(right, reference).within(task.tolerances[dtype])


def test_the_deviation_by_hand() -> None:
    """The reference's root mean square is 5: an element of 1 is held to that, one of 7 to itself."""
    reference = torch.tensor([1.0, 7.0], dtype=torch.float64)
    apart = deviation(torch.tensor([1.5, 7.0]), reference)
    assert [apart.norm, apart.worst] == pytest.approx([0.5 / math.sqrt(50), 0.1]) and apart.unlike == 0
    assert deviation(torch.tensor([1.0, 6.3]), reference).worst == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("found", "reference", "unlike"),
    [
        ([math.nan], [math.nan], 0),
        ([math.nan], [1.0], 1),
        ([1.0], [math.nan], 1),
        ([math.inf], [math.inf], 0),
        ([math.inf], [-math.inf], 1),
        ([math.inf], [70_000.0], 0),  # beyond float16
        ([65_504.0], [70_000.0], 1),
    ],
)
def test_nan_and_infinity_have_to_agree(found: list[float], reference: list[float], unlike: int) -> None:
    apart = deviation(torch.tensor(found, dtype=torch.float16), torch.tensor(reference, dtype=torch.float64))
    assert (apart.norm, apart.worst, apart.unlike) == (0.0, 0.0, unlike)


def test_roundoff_is_that_of_the_types() -> None:
    assert {name: torch.finfo(getattr(torch, name)).eps / 2 for name in DTYPES} == ROUNDOFF


# -- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_inputs_are_fresh_repeatable_and_valid(task: Task, kind: str) -> None:
    shape = next(s for s in small(task) if task.bytes(s, "float32") > 4000)
    for dtype in task.dtypes:
        source = generator()
        first, second = (task.draw(source, shape, dtype, "cpu", kind) for _ in range(2))
        again = task.draw(generator(), shape, dtype, "cpu", kind)
        assert list(first) == [operand.name for operand in task.inputs]
        for operand in task.inputs:
            made = first[operand.name]
            assert made.is_contiguous() and tuple(made.shape) == operand.shape(shape)
            assert torch.equal(bits(made), bits(again[operand.name]))
            assert not torch.equal(bits(made), bits(second[operand.name])), "the next inputs are others"
            if operand.below is not None:
                assert 0 <= int(made.min()) <= int(made.max()) < shape[operand.below]
        floats = [first[operand.name] for operand in task.inputs if holds(operand)]
        if kind == "special":
            assert any(not bool(made.isfinite().all()) for made in floats)
        else:
            assert all(bool(made.isfinite().all()) for made in floats)
            results = task.reference(first, shape).values()
            assert all(bool(result.to(getattr(torch, dtype)).isfinite().all()) for result in results), "defined"
        if kind == "edge":
            info = torch.finfo(floats[0].dtype)
            sizes = floats[0].abs()
            assert bool((sizes == 0).any()) and bool((sizes == 1).any())
            assert bool(((sizes > 0) & (sizes < info.smallest_normal)).any()), "a subnormal number"
            assert float(sizes.max()) == pytest.approx(min(task.largest(shape, dtype), info.max), rel=0.01)
        if kind == "wide":
            seen = floats[0].abs().float()
            assert float(seen.max() / seen[seen > 0].min()) > 1e4


def holds(operand: Operand) -> bool:
    """Whether an input is drawn by its kind: no integers, no sines."""
    return operand.dtype in ("element", "float32") and operand.name not in ("cos", "sin")


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8) if tensor.dim() else tensor


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'odd' is none of random, edge, special, wide"):
        TASKS[0].draw(generator(), {"count": 3}, "float32", "cpu", "odd")


def test_the_table_names_as_many_pages_as_are_counted() -> None:
    task = find("paged_gather")
    for pages in (3, 12, 20):
        shape = {"pages": pages, "sequences": 3, "blocks": 4, "page": 1, "width": 1}
        table = task.draw(generator(), shape, "float32", "cpu")["table"]
        assert len(set(table.flatten().tolist())) == min(pages, 12)


def test_a_cosine_has_its_sine() -> None:
    made = find("rotary").draw(generator(), {"tokens": 9, "heads": 1, "pairs": 7}, "float32", "cpu")
    assert torch.allclose(made["cos"].square() + made["sin"].square(), torch.ones(9, 7))
    assert bool((made["sin"] < 0).any()) and bool((made["sin"] > 0).any())


# -- search spaces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_space_begins_with_the_defaults_and_goes_outwards(task: Task) -> None:
    wanted = space.defaults(task)
    assert all(parameter.default in parameter.values and parameter.what for parameter in task.parameters)
    found = list(space.combinations(task))
    assert found[0] == wanted and space.objection(task, wanted) is None
    assert len({tuple(made.items()) for made in found}) == len(found)
    away = [sum(made[name] != wanted[name] for name in wanted) for made in found]
    assert away == sorted(away)
    for parameter in task.parameters:
        assert {made[parameter.name] for made in found} == set(parameter.values), "no value is out of reach"


def test_a_combination_that_does_not_fit_says_why() -> None:
    task = find("rmsnorm")
    large: dict[str, Any] = {**space.defaults(task), "threads": 1024, "items": 8}
    assert "65,536 registers" in str(space.objection(task, large))
    assert large not in list(space.combinations(task))
    assert space.objection(task, large | {"keep": "shared"}) is None


def test_a_value_is_read_as_it_is_written() -> None:
    threads = next(p for p in TASKS[0].parameters if p.name == "threads")
    assert space.value(threads, "512") == 512
    assert [space.value(threads, text) for text in ("5", "512.0", "", "many")] == [None] * 4
    assert next(islice(space.combinations(TASKS[0]), 1, None))["vector_bytes"] == 4


def test_special_values_do_not_hang_on_the_order_in_which_places_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU writes a place that was drawn twice in any order; what was drawn must be the same when it is drawn again."""
    drawn = torch.randint

    def flipped(*words: Any, **options: Any) -> torch.Tensor:
        return drawn(*words, **options).flip(0)

    def specials() -> torch.Tensor:
        return tasks._with_specials(torch.zeros(4096, 1), torch.Generator().manual_seed(5), "cpu")

    first = specials()
    monkeypatch.setattr(torch, "randint", flipped)
    assert torch.equal(first.nan_to_num(nan=7.0), specials().nan_to_num(nan=7.0))
    assert 400 < int((first != 0).sum()) < 512, "some places were drawn twice"


def test_inputs_are_drawn_by_kernels_that_a_trace_shows_as_pytorch_s() -> None:
    """torch compiles the kernels of these when they are first called, under names that say nothing of PyTorch (exp2: seen)."""
    compiled = "exp2|sinc|lgamma|digamma|polygamma|erfcx|zeta|i0e?|i1e?|ndtri|log_ndtr|gcd|lcm|entr|bessel_[jy][01]"
    folder = Path(tasks.__file__).parent
    sources = [folder / "task.py", *(folder / "tasks").glob("*.py")]
    sources += (folder / "verify").glob("*.py")
    assert len(sources) > 20
    for file in sources:
        assert re.search(rf"(?:torch|special)\.(?:{compiled})\(", file.read_text(encoding="utf-8")) is None, file
