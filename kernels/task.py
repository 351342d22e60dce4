"""What a generated kernel has to compute: operands, shapes, reference, tolerance, required work and search parameters.

A task is one file of ``tasks/``. Its float64 reference is the truth, `Task.eager` is what one writes in PyTorch, and `Task.bytes`
is the least that has to pass through device memory. torch is imported by the methods that need it: emitting source needs none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ..traces.errors import UsageError

if TYPE_CHECKING:
    import torch

Shape = Mapping[str, int]
"""The sizes of a task by their names."""

Settings = Mapping[str, int | str]
"""A value for each search parameter."""

DTYPES: Final = ("float32", "float16", "bfloat16")
"""The element types there are, in the order of their numbers in the C interface."""

ITEM_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "int32": 4, "int64": 8}

ROUNDOFF: Final = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""The largest relative error of rounding to nearest: half of the distance between 1 and the next number."""

KINDS: Final = ("random", "edge", "special", "wide")
"""Inputs: normal numbers; zeros, ones, extremes and subnormals; NaN and infinities here and there; many decades."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that goes in or comes out. `dims` are names of sizes, or numbers.

    `dtype` is ``element`` for the run's own, else a key of `ITEM_BYTES`. The integers of one with `below` lie in [0, that size).
    """

    name: str
    dims: tuple[str | int, ...]
    dtype: str = "element"
    below: str | None = None

    def shape(self, sizes: Shape) -> tuple[int, ...]:
        """Its dimensions at these `sizes`."""
        return tuple(sizes[d] if isinstance(d, str) else d for d in self.dims)

    def dtype_in(self, dtype: str) -> str:
        """Its type in a run with elements of `dtype`."""
        return dtype if self.dtype == "element" else self.dtype

    def nbytes(self, sizes: Shape, dtype: str) -> int:
        """Bytes it takes."""
        return math.prod(self.shape(sizes)) * ITEM_BYTES[self.dtype_in(dtype)]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A dimension of the search space; `default` is one of `values`."""

    name: str
    default: int | str
    values: tuple[int | str, ...]
    what: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule that a combination of values has to keep; `why` completes "this does not work because"."""

    why: str
    holds: Callable[[Settings], bool]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a right result may be from the float64 reference (`verify.errors`); `reason` says where the numbers come from."""

    norm: float
    worst: float
    reason: str


@dataclass(frozen=True, slots=True)
class Task(ABC):
    """One kernel's job; each file of ``tasks/`` has an instance called ``TASK``.

    The first of `shapes` is the default, several times as large as the L2 cache; the others are small or odd. `scalars` are fixed
    numbers of the formula. `roundings` and `float32_steps` give the tolerances, `because` says why (see `tolerances`).
    """

    name: str
    title: str
    sizes: tuple[str, ...]
    dtypes: tuple[str, ...]
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    shapes: tuple[Shape, ...]
    parameters: tuple[Parameter, ...]
    roundings: int
    float32_steps: int
    because: str
    constraints: tuple[Constraint, ...] = ()
    scalars: Mapping[str, float] = field(default_factory=dict)

    def dtype_of(self, asked: str | None) -> str:
        """The element type that is asked for, by default the first; raises `UsageError` for one that the task has not."""
        if asked is not None and asked not in self.dtypes:
            raise UsageError(f"{self.name} has no dtype {asked!r}; it has {', '.join(self.dtypes)}")
        return asked or self.dtypes[0]

    @property
    def tolerances(self) -> Mapping[str, Tolerance]:
        """By dtype: each of `roundings` costs at most a roundoff of it, each of `float32_steps` one of float32.

        The norm is bounded as the worst element is: equal inputs make equal errors, which do not average out.
        """
        found = {}
        for dtype in self.dtypes:
            bound = self.roundings * ROUNDOFF[dtype] + self.float32_steps * ROUNDOFF["float32"]
            words = f"{self.roundings} roundings to {dtype} and {self.float32_steps} of float32: {self.because}"
            found[dtype] = Tolerance(bound, bound, words)
        return found

    def bytes(self, shape: Shape, dtype: str) -> int:
        """The fewest bytes through device memory: each input read once, each output written once."""
        return sum(operand.nbytes(shape, dtype) for operand in (*self.inputs, *self.outputs))

    @abstractmethod
    def flops(self, shape: Shape, dtype: str) -> int:
        """Operations on floating-point numbers; an exponential, a division or a comparison counts as one."""

    @abstractmethod
    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """The outputs in float64, on the inputs' device."""

    @abstractmethod
    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """The outputs as one writes them in PyTorch, in `dtype`."""

    def largest(self, shape: Shape, dtype: str) -> float:
        """The largest magnitude of an input for which the result, and what float32 has to hold on the way, is finite."""
        return _largest_number(dtype) / 8

    def draw(
        self, generator: torch.Generator, shape: Shape, dtype: str, device: torch.device | str, kind: str = "random"
    ) -> dict[str, torch.Tensor]:
        """Fresh inputs of one of `KINDS`, the same again from an equal `generator`, which lives on `device`."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
        return {operand.name: self.draw_one(operand, generator, shape, dtype, device, kind) for operand in self.inputs}

    def draw_one(
        self,
        operand: Operand,
        generator: torch.Generator,
        shape: Shape,
        dtype: str,
        device: torch.device | str,
        kind: str,
    ) -> torch.Tensor:
        """One input as of `draw`. Integers are drawn from their whole range whatever the `kind`."""
        import torch

        kept = getattr(torch, operand.dtype_in(dtype))
        dims = operand.shape(shape)
        if not kept.is_floating_point:
            info = torch.iinfo(kept)
            low, high = (info.min, info.max + 1) if operand.below is None else (0, shape[operand.below])
            return torch.randint(low, high, dims, generator=generator, device=device, dtype=kept)
        largest = min(self.largest(shape, dtype), _largest_number(operand.dtype_in(dtype)))
        if kind == "edge":
            return _edges(dims, generator, device, kept, largest)
        if kind == "wide":
            return _wide(dims, generator, device, kept, largest)
        made = torch.randn(dims, generator=generator, device=device).to(kept)
        return _with_specials(made, generator, device) if kind == "special" else made


def vector_bytes() -> Parameter:
    """The parameter that most tasks share."""
    return Parameter("vector_bytes", 16, (4, 8, 16), "bytes of one load or store of a thread")


def threads(default: int, values: Sequence[int] = (128, 256, 512, 1024)) -> Parameter:
    """How large a block is."""
    return Parameter("threads", default, tuple(values), "threads of a block")


def unroll(default: int, what: str, values: Sequence[int] = (1, 2, 4, 8)) -> Parameter:
    """How much a thread has under way at once."""
    return Parameter("unroll", default, tuple(values), what)


def rows_parameters(items: int) -> tuple[Parameter, ...]:
    """The search space of a kernel that reduces rows and then writes them."""
    return (
        vector_bytes(),
        threads(256),
        Parameter(
            "items", items, (1, 2, 4, 8), "vectors of a row that a thread holds; decides how many threads share a row"
        ),
        Parameter(
            "keep", "registers", ("registers", "shared", "none"), "where a row waits between reduction and result"
        ),
        Parameter("rows_per_block", 1, (1, 2, 4, 8), "rows that a thread takes one after another"),
        unroll(2, "vectors under way where a row is read in a loop", (1, 2, 4)),
    )


def _looped(settings: Settings) -> bool:
    return settings["keep"] != "registers" or settings["unroll"] == 2


def rows_constraints(tensors: int) -> tuple[Constraint, ...]:
    """What `rows_parameters` have to keep where a thread holds vectors of that many `tensors`."""

    def fits(settings: Settings) -> bool:
        words = int(settings["items"]) * int(settings["vector_bytes"]) // 4 * tensors
        return settings["keep"] != "registers" or words * int(settings["threads"]) <= 32_768

    return (
        Constraint("half of an SM's 65,536 registers would not hold the rows of one block", fits),
        Constraint("unroll only matters to rows that are read in a loop (keep is shared or none)", _looped),
    )


ROW_SHAPES: Final[tuple[Shape, ...]] = tuple(
    {"rows": rows, "columns": columns}
    for rows, columns in (
        *((8192, 8192), (65536, 1024), (4096, 32768), (128, 131072)),
        *((1, 1), (3, 7), (37, 64), (7, 127), (5, 1000), (33, 1024), (129, 513), (4, 8192), (3, 8200), (1, 65537)),
    )
)
"""Large ones of models, then one, primes, one beyond and one below a power of two, and rows longer than a block can keep."""


def _largest_number(dtype: str) -> float:
    return {"float32": (2 - 2**-23) * 2.0**127, "bfloat16": (2 - 2**-7) * 2.0**127, "float16": 65504.0}[dtype]


def _edges(
    dims: tuple[int, ...], generator: torch.Generator, device: Any, kept: torch.dtype, largest: float
) -> torch.Tensor:
    """Whole rows of zeros, of ones, of the smallest number; and rows in which each element is some extreme."""
    import torch

    info = torch.finfo(kept)
    smallest = info.smallest_normal * info.eps
    values = [0.0, -0.0, 1.0, -1.0, largest, -largest, info.smallest_normal, -info.smallest_normal]
    values += [info.smallest_normal - smallest, smallest, -smallest, 1 + info.eps, 1 - info.eps / 2]
    table = torch.tensor(values, dtype=torch.float64, device=device).to(kept)
    mixed = table[torch.randint(len(values), dims, generator=generator, device=device)]
    constant = table[torch.tensor([0, 2, 9], device=device)][
        torch.randint(3, (*dims[:-1], 1), generator=generator, device=device)
    ]
    choose = torch.rand((*dims[:-1], 1), generator=generator, device=device) < 0.25
    return torch.where(choose, constant, mixed) if len(dims) > 1 else mixed


def _wide(
    dims: tuple[int, ...], generator: torch.Generator, device: Any, kept: torch.dtype, largest: float
) -> torch.Tensor:
    """Either sign, and magnitudes spread evenly over the decades from the smallest normal number to `largest`."""
    import torch

    low, high = math.log2(torch.finfo(kept).smallest_normal), math.log2(largest)
    powers = torch.rand(dims, generator=generator, device=device, dtype=torch.float64) * (high - low) + low
    signs = torch.randint(2, dims, generator=generator, device=device) * 2 - 1
    # Not exp2: torch compiles that one when it is first called, and a trace does not show such a kernel as PyTorch's.
    return (torch.exp(powers * math.log(2)) * signs).to(kept)


def _with_specials(made: torch.Tensor, generator: torch.Generator, device: Any) -> torch.Tensor:
    """`made` with a NaN or an infinity in one of 64 elements, in one at least; in rows, in one of eight rows.

    A place may be drawn twice, and a GPU writes the two in any order: the value follows from the place, so that the same
    generator always gives the same numbers.
    """
    import torch

    count = max(1, made.numel() // 64 if made.dim() < 2 else math.prod(made.shape[:-1]) // 8)
    places = torch.randint(made.numel(), (count,), generator=generator, device=device)
    values = torch.tensor([math.nan, math.inf, -math.inf], device=device).to(made.dtype)
    first = torch.randint(3, (1,), generator=generator, device=device)
    made.view(-1)[places] = values[(places + first) % 3]
    return made
