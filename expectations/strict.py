"""Strict JSON: objects whose keys are known, occur once and have the right types, with errors that name the nearest key."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from ..traces.errors import InputError
from ..traces.run import nearest

LONGEST_TEXT: Final = 500
ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")


class Fields:
    """The keys of one JSON object, each fetched once with its type checked."""

    def __init__(self, data: Any, where: str, known: Iterable[str]) -> None:
        if not isinstance(data, dict):
            raise InputError(f"{where}: expected an object, found {_json_type(data)}")
        self.data: Mapping[str, Any] = data
        self.where = where
        for key in data:
            if key not in known:
                raise InputError(f"{where}: unknown key {key!r}{nearest(key, known)}")

    def get(self, key: str) -> Any:
        if key not in self.data:
            raise InputError(f"{self.where}: key {key!r} is missing")
        return self.data[key]

    def text(self, key: str) -> str:
        """Non-empty, at most `LONGEST_TEXT` characters, printable: verdicts repeat it on terminals."""
        return self._as_text(key, self.get(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of such texts; empty where the key is absent or null."""
        found = self.data.get(key)
        if found is None:
            return ()
        if not isinstance(found, list):
            self.refuse(key, "a list", found)
        return tuple(self._as_text(key, value) for value in found)

    def _as_text(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            self.refuse(key, "text", value)
        if not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
            raise InputError(f"{self.where}: {key!r} must be 1 to {LONGEST_TEXT} printable characters on one line")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.data.get(key) is None else self.text(key)

    def identifier(self, key: str) -> str:
        value = self.text(key)
        if not ID.fullmatch(value):
            raise InputError(f"{self.where}: {key!r} is {value!r}; write lower-case letters, digits, '_', '.', '-'")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, "a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise InputError(f"{self.where}: {key!r} is not a finite number")
        return number

    def optional_number(self, key: str) -> float | None:
        return None if self.data.get(key) is None else self.number(key)

    def refuse(self, key: str, wanted: str, found: Any) -> NoReturn:
        raise InputError(f"{self.where}: {key!r} must be {wanted}, found {_json_type(found)}")


def read_text(path: Path) -> str:
    """The text of a file; raises `InputError` if it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is not UTF-8 text (byte {exc.start}); save it as UTF-8") from exc


def strict_json(text: str, where: str) -> Any:
    """`text` as JSON in which no key occurs twice in one object and every number is finite; else `InputError`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                raise InputError(f"{where}: key {key!r} appears twice in one object; keep one")
            out[key] = value
        return out

    def no_constant(name: str) -> NoReturn:
        raise InputError(f"{where}: {name} is no JSON number; a bound is finite, or null")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except RecursionError as exc:
        raise InputError(f"{where} nests too deeply to be an expectation file") from exc
    except ValueError as exc:  # also an integer of too many digits
        raise InputError(f"{where} is not JSON: {exc}") from exc


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
