"""What a problem is made of, taken before a variant exists and looked at again until it is gone.

    Held(problem) | variant, prepare | changed? | iteration | changed? reference | ... | changed? close | changed?

A variant that shrinks its problem, or empties it while nobody looks, would be compared with the reference of an easier one. So
everything found in the problem's attributes must stay: names, lengths, numbers, and of each tensor identity, memory, shape,
stride, type and content. Contents may differ where the harness draws new values (`inputs`) and where the problem gives variants
a place to write to (`places`). What the problem's own methods change is right: `take` follows them.

Contents are summed by rows and by columns of a width that no variant knows. So one changed word shows, and an exchange that
keeps all sums cannot be planned. Sums take memory in the order of the square root of what they are of.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch

PLAIN: Final = (bool, int, float, complex, str, bytes, type(None), torch.device, torch.dtype, torch.Size)
_CODE: Final = (types.FunctionType, types.BuiltinFunctionType, type, property, classmethod, staticmethod)

CHUNK_WORDS: Final = 1 << 26
"""Of 8 bytes, summed at once: with at most `WIDTHS` columns, rows and columns both stay below a few hundred KiB."""

WIDTHS: Final = (2048, 8192)
"""Between which the secret number of columns lies."""


class Same:
    """An object that equals itself alone. It is kept, so that no other can have its place in memory meanwhile."""

    __slots__ = ("it",)

    def __init__(self, it: object) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)

    def __repr__(self) -> str:
        return f"{type(self.it).__name__} at {id(self.it):x}"


class Held:
    """One problem. `may_change` are the tensors whose contents may: those of `inputs` and of `places`."""

    def __init__(self, problem: object, may_change: Sequence[torch.Tensor], width: int) -> None:
        self._problem = problem
        self._free = {_memory(tensor) for tensor in may_change}
        self._width = WIDTHS[0] + width % (WIDTHS[1] - WIDTHS[0])
        self._sums: dict[tuple[str, int], list[torch.Tensor]] = {}
        self.take()

    def take(self) -> None:
        """Code of the problem's own has run: what it holds now is right. Contents are those that were first seen."""
        self._parts = dict(_parts(self._problem))
        sums: dict[tuple[str, int], list[torch.Tensor]] = {}
        for _, tensor in self._fixed():
            key = _memory(tensor)
            if key not in sums:
                sums[key] = self._sums.get(key) or list(_sums(tensor, self._width))
        self._sums = sums

    def rearranged(self) -> str:
        """The first part that is another, is gone, or is new; empty if there is none. Contents of tensors are not read."""
        now = dict(_parts(self._problem))
        for path, part in self._parts.items():
            if path not in now:
                return f"{path} is gone"
            if now[path] != part:
                told = isinstance(part, str) and isinstance(now[path], str)
                return f"{path} is {now[path][:60]}, not {part[:60]}" if told else f"{path} is another"
        return next((f"{path} is new" for path in now if path not in self._parts), "")

    def rewritten(self) -> str:
        """The path of the first tensor whose contents must stay and have not; empty if there is none."""
        seen: set[tuple[str, int]] = set()
        for path, tensor in self._fixed():
            key = _memory(tensor)
            if key in seen:
                continue
            seen.add(key)
            before, now = self._sums.get(key), list(_sums(tensor, self._width))
            if before is None or len(before) != len(now) or not all(map(torch.equal, before, now)):
                return path
        return ""

    @property
    def nbytes(self) -> int:
        """Of the memory behind all tensors found, each once."""
        return memory_bytes(part.it for part in self._parts.values() if isinstance(part, _Tensor))

    def owns(self, tensor: torch.Tensor) -> bool:
        """Whether `tensor` lies in the memory of any of the problem's."""
        return any(_memory(part.it) == _memory(tensor) for part in self._parts.values() if isinstance(part, _Tensor))

    def _fixed(self) -> Iterator[tuple[str, torch.Tensor]]:
        for path, part in self._parts.items():
            if isinstance(part, _Tensor) and (key := _memory(part.it))[1] and key not in self._free:
                yield path, part.it


class _Tensor(Same):
    """A tensor with its memory, and how that is read."""

    __slots__ = ("how",)

    it: torch.Tensor

    def __init__(self, it: torch.Tensor) -> None:
        super().__init__(it)
        layout = (tuple(it.stride()), it.storage_offset(), it.data_ptr()) if _memory(it)[1] else (it._version,)
        self.how = (type(it), tuple(it.shape), it.dtype, it.device, it.requires_grad, layout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tensor) and self.it is other.it and self.how == other.how

    __hash__ = Same.__hash__


def memory_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Of the memory behind `tensors`, each piece once."""
    found = {_memory(tensor): tensor for tensor in tensors}
    return sum(tensor.untyped_storage().nbytes() for key, tensor in found.items() if key[1])


def _memory(tensor: torch.Tensor) -> tuple[str, int]:
    """Device and address of the memory behind `tensor`; address 0 where it has none of its own (sparse, empty, meta)."""
    if tensor.layout != torch.strided or tensor.device.type not in ("cpu", "cuda"):
        return "", 0
    return str(tensor.device), tensor.untyped_storage().data_ptr()


def _sums(tensor: torch.Tensor, width: int) -> Iterator[torch.Tensor]:
    """Sums of the 8-byte words behind `tensor`, by row and column of `width`, and as they are those that fill no row."""
    storage = tensor.untyped_storage()
    held = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
    whole = held.numel() // 8 * 8
    yield _copied(held[whole:])
    for words in held[:whole].view(torch.int64).split(CHUNK_WORDS):
        rows = len(words) // width
        table = words[: rows * width].view(rows, width)
        yield table.sum(0).cpu()
        yield table.sum(1).cpu()
        yield _copied(words[rows * width :])


def _copied(words: torch.Tensor) -> torch.Tensor:
    return words.to("cpu", copy=True)


def _parts(problem: object) -> Iterator[tuple[str, Any]]:
    """(path, what must stay as it is) of everything in the problem's attributes, containers before what they hold."""
    seen: dict[int, Same] = {}
    home = type(problem).__module__

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, PLAIN):
            yield path, f"{value!r}"
            return
        if id(value) in seen:
            yield path, seen[id(value)]
            return
        seen[id(value)] = Same(value)
        if isinstance(value, torch.Tensor):
            yield path, _Tensor(value)
        elif isinstance(value, dict):
            if path:
                yield path, f"{type(value).__name__} of {len(value)}"
            for key, one in value.items():
                yield from walk(one, f"{path}[{key!r}]" if path else str(key))
        elif isinstance(value, list | tuple):
            yield path, f"{type(value).__name__} of {len(value)}"
            if all(isinstance(one, PLAIN) for one in value):
                yield f"{path}[:]", f"{value!r}"
            else:
                for number, one in enumerate(value):
                    yield from walk(one, f"{path}[{number}]")
        elif isinstance(value, set | frozenset | bytearray | range):
            yield path, f"{value!r}"
        elif hasattr(value, "__array_interface__"):
            yield path, (Same(value), value.shape, value.strides, str(value.dtype), hash(value.tobytes()))
        elif is_dataclass(value) and not isinstance(value, type):
            yield path, Same(type(value))
            for field in fields(value):
                yield from walk(getattr(value, field.name, None), f"{path}.{field.name}")
        elif isinstance(value, torch.nn.Module) or (type(value).__module__ == home and not isinstance(value, _CODE)):
            yield path, Same(type(value))
            yield from walk(dict(getattr(value, "__dict__", {})), path)
        else:
            yield path, Same(value)

    yield "its class", Same(type(problem))
    yield from walk(dict(vars(problem)), "")
