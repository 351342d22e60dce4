r"""What a trace, a manifest or an expectation says, where it becomes a file's name or part of an output line.

    file_name("../../evil run")       "evil_run-5a0c2f7e"         one part of a path, whatever the text was
    one_line("a\x1b[2K\n17 met.")     "a\\x1b[2K\\n17 met."       no line break, nothing that a terminal obeys
    printed("::error::x")             "\\x3a:error::x"            a whole line, nothing that a CI runner obeys

Documents of our own are held to more: a run's id, a variant's name and a hardware key are identifiers, or the document is refused
where it is read (`run.load_manifest`). Only the standard library is needed here.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

LONGEST_NAME: Final = 64
"""Characters of a file's name made of content. It is joined with others and an ending, and file systems allow 255 bytes."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""A variant's or a workload's name: it names folders, and claims refer to it."""

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
"""A run's id: its workload's name, a time, perhaps a number; it names the run's folder and its bundle."""

KEY: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
"""A hardware key or a claim's id: it names files of expectations and calibrations."""

_HASH: Final = 8
"""Hexadecimal digits of SHA-256 that tell cut or changed names apart."""


def file_name(text: str) -> str:
    """`text` as one part of a path: letters, digits, ``_``, ``.``, ``-``, a letter or digit first, at most `LONGEST_NAME`.

    A text that is such a name already stays as it is; any other gets a hash of itself at its end, so that two texts never
    share a name.
    """
    if NAME.fullmatch(text):
        return text
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", text[:1000]).strip("._-")
    return f"{safe[: LONGEST_NAME - _HASH - 1].rstrip('._-') or 'x'}-{_digest(text)}"


def last_part(path: str) -> str:
    """What a path of Linux or Windows ends in: the folders before it name users."""
    return re.split(r"[/\\]", path)[-1]


def bounded_key(text: str, longest: int = 80) -> str:
    """`text`, of a key's characters, in at most `longest` of them: what is cut is replaced by a hash of the whole."""
    return text if len(text) <= longest else f"{text[: longest - _HASH - 1].rstrip('_')}_{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]


def one_line(text: str, keep: str = "") -> str:
    r"""`text` with every character that a terminal might obey, and every lone surrogate, as ``\x1b`` or ``\u202e``.

    Those are the Unicode categories Cc, Cf, Cs, Zl and Zp; characters in `keep` stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() or c == "\u3000" else _code(c) for c in text)


_COMMAND: Final = re.compile(r"^(\s*):(?=:)")
_OLD_COMMAND: Final = re.compile(r"#(?=#\[|#vso\[)")


def printed(line: str) -> str:
    r"""`line`, of which every part is escaped, without a command to the CI runner that reads it.

    GitHub's runner obeys lines that begin with ``::`` after blanks, and ``##[`` anywhere in a line; Azure's also ``##vso[``.
    (actions/runner, ActionCommand.cs; Azure Pipelines, logging commands.) Their first character is written as ``\x3a`` or
    ``\x23``.
    """
    if "::" in line:
        line = _COMMAND.sub(r"\1\\x3a", line)
    return _OLD_COMMAND.sub(r"\\x23", line) if "##" in line else line


def _code(char: str) -> str:
    point = ord(char)
    if point <= 0xFF:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, f"\\x{point:02x}")
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
