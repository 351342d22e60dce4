"""Names in a table are shortened so that rows that differ read differently, at any width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.analyze.naming.kernels import short_names
from aisp_trace.report.terminal.console import Column, table

COLUMNS = [Column("kernel", "left", shrink=True), Column("n"), Column("stage", "left", shrink=True)]

GEMMS = [
    f"void cutlass::Kernel2<cutlass_80_{core}_s1681{tile}gemm_{kind}_128x{width}_32x{stages}_{layout}_align8>(T1::Params)"
    for core in ("tensorop", "wmma")
    for tile in (6, 8)
    for kind in ("bf16", "f16")
    for width in (64, 128, 256)
    for stages in (3, 4)
    for layout in ("nn", "nt", "tn")
]
ELEMENTWISE = [
    f"void at::native::vectorized_elementwise_kernel<{n}, at::native::{what}, std::array<char*, 3ul> >(int, T2, T3)"
    for n in (2, 4, 8)
    for what in ("CUDAFunctor_add<float>", "CUDAFunctor_add<c10::BFloat16>", "BinaryFunctor<float, float, float, Mul>")
]


def shown(names: list[str], width: int) -> list[str]:
    """The first column as printed."""
    text = table(COLUMNS, [(name, 123, "iteration/forward") for name in names], width)
    return [line.partition("  ")[0] for line in text.splitlines()[1:]]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 300])
def test_kernels_that_differ_read_differently(width: int) -> None:
    names = [*GEMMS, *ELEMENTWISE]
    short = short_names(names)
    assert len(set(short.values())) == len(names)
    assert len(set(shown([short[name] for name in names], width))) == len(names)


@given(st.lists(st.text("ab_<>/ ", min_size=1, max_size=70).map(str.strip).filter(bool), max_size=30, unique=True))
def test_any_names_that_differ_read_differently(names: list[str]) -> None:
    text = table([Column("name", "left", shrink=True)], [(name,) for name in names], 40)
    assert len(set(text.splitlines()[1:])) == len(names)
