"""Objects of strict JSON (``traces/documents.py``) whose keys are known and have the right types; errors name the nearest key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from ...traces.content import KEY
from ...traces.errors import InputError
from ...traces.run import nearest

LONGEST_TEXT: Final = 500


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
        if not KEY.fullmatch(value):
            raise InputError(f"{self.where}: {key!r} is {value!r}; write lower-case letters, digits, '_', '.', '-'")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, "a number", value)
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return None if self.data.get(key) is None else self.number(key)

    def refuse(self, key: str, wanted: str, found: Any) -> NoReturn:
        raise InputError(f"{self.where}: {key!r} must be {wanted}, found {_json_type(found)}")


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
