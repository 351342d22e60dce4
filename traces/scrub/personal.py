r"""What is personal in a text, and what is put in its place: one policy for everything that leaves the machine.

    /home/alice/run/train.py:12          train.py:12           a file by its name
    C:\Users\bob\models                  (path a)              a folder by a letter
    alice@example.com, 10.1.2.3, https   (address a)
    --token=..., AWS and GitHub keys     --token=(secret a)
    alice, node17                        (user a), (host a)    words that a path, the environment or this machine names

The same text is replaced by the same words wherever one `Policy` sees it. Letters count, since stages whose names differ in
numbers alone are folded into one. What is recognised is all that is promised: a customer's name in a range is text like any
other.

Needs the standard library alone: a GPU host scrubs what it records.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

PATH: Final = "path"
ADDRESS: Final = "address"
SECRET: Final = "secret"
USER: Final = "user"
HOST: Final = "host"

_KEYWORD: Final = (
    r"(?:api[_-]?key|(?:access|secret|private|account|signing|encryption)[_-]?key(?:[_-]?id)?|secret|token|"
    r"passw(?:or)?d|pwd|passphrase|credentials?)"
)
_VALUE: Final = r"\"[^\"]*\"|'[^']*'|[^\s,;&'\"\])}]+"
_ASSIGNED: Final = re.compile(
    rf"({_KEYWORD})([\"']?\s{{0,4}}(?:=|:(?!:))\s{{0,4}})({_VALUE})|((?<=[\s'\"-])-[\w-]{{0,40}}{_KEYWORD}[\"']?,?\s{{1,4}})({_VALUE})",
    re.IGNORECASE,
)
"""``api_key=...``, ``"password": "..."``, ``--token ...``. A plural is not a secret: ``tokens=512`` is a count."""

_BEARER: Final = re.compile(r"\b(Bearer|Basic)\s+([A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)

_KEYS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}"  # AWS: IAM unique identifiers
    r"|gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}"  # GitHub: token formats
    r"|glpat-[A-Za-z0-9_-]{20,}"  # GitLab: personal access tokens
    r"|sk-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"  # Stripe
    r"|hf_[A-Za-z0-9]{20,}|nvapi-[A-Za-z0-9_-]{20,}"  # Hugging Face, NVIDIA
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}"  # Google
    r"|npm_[A-Za-z0-9]{30,}|pypi-AgE[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JSON Web Token, RFC 7519
    r")|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
"""Formats that their issuers publish so that they can be recognised."""

_URL: Final = re.compile(r"\b(?!file:)[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s'\"<>]+")
_MAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?!aisp\b|[A-Z]+_[\d.]+)[\w-][\w.-]{0,254}")
"""Also ``user@host``; not the NVTX range ``measured@aisp``, nor a versioned symbol such as ``memcpy@GLIBC_2.14``."""
_IPV4: Final = re.compile(r"(?<![\d.\w-])(?<!==)(?:\d{1,3}\.){3}\d{1,3}(?![\w.]|-\w)")
_IPV6: Final = re.compile(r"(?<![\w:])[0-9A-Fa-f:]{3,39}(?![\w:<(])")
_MAC: Final = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])")
_DOMAIN: Final = re.compile(
    r"(?<![\w.-])(?:[A-Za-z0-9-]{1,63}\.){1,6}(?:com|org|net|edu|gov|internal|corp|lan|intra|intranet|localdomain)(?![\w-]|\.\w)"
)

_IN_PATH: Final = r"[^\s,;:'\"()\[\]#<>|]"
_PATHS: Final = re.compile(
    rf"(?<![\w/.\\])(?:(?:~[\w.-]{{0,64}}|\.{{0,2}})/{_IN_PATH}+|[A-Za-z]:[/\\]{_IN_PATH}+|\\\\{_IN_PATH}+)"
    r"(?: (?![~.])[^\s/\\,;:'\"()]{1,100}[/\\][^\s,;:'\"()\[\]#<>|]*)*"  # folders with blanks in their names
)
_QUOTED_PATH: Final = re.compile(r"(?<=')(?:~|\.{0,2}/|[A-Za-z]:\\)[^'\n]*[/\\][^'\n]+(?=')")
_FILE: Final = re.compile(r"[\w.+-]*\.[A-Za-z][A-Za-z0-9_]{0,11}(?::\d+){0,2}")
"""A last part that is a file's name, by its extension, stays: it says which line of a program a range is about."""
_NODE: Final = re.compile(r"/[\w./-]*/[A-Z][A-Za-z0-9]*(?:_\d+)?")
"""A layer as TensorRT and ONNX name it, ``/layers.0/attn/MatMul_1``, unless it lies in one of `_ROOTS`."""
_ROOTS: Final = re.compile(
    r"/(?:app|builds?|content|data\d*|datasets?|dev|efs|etc|export|fsx?|gpfs|home\d*|homes|lustre|media|mnt|net|nfs|opt|private|"
    r"proc|projects?|root|run|scratch|shared?|srv|storage|sys|tmp|Users|usr|var|Volumes|work|workspaces?)/",
)
_HOME: Final = re.compile(r"[/\\](?:home\d*|homes|Users)[/\\]+([^/\\\s,;:'\"()\[\]#<>|]+)|(?:^|[\s=:'\"])~([\w.-]+)/")
_VARIABLE: Final = re.compile(r"^(?:export )?([A-Z_][A-Z0-9_]{0,63})=(.{1,512})$", re.MULTILINE)
_USERS: Final = ("user", "username", "logname", "sudo_user", "slurm_job_user", "userprofile")
_HOSTS: Final = ("hostname", "host", "computername", "slurmd_nodename", "nodename", "slurm_submit_host")

_COMMON: Final = frozenset(
    (
        *(
            "root",
            "localhost",
            "user",
            "users",
            "ubuntu",
            "runner",
            "default",
            "admin",
            "test",
            "data",
            "model",
            "train",
        ),
        *(
            "work",
            "workspace",
            "jovyan",
            "nobody",
            "shared",
            "public",
            "developer",
            "torch",
            "cuda",
            "nvidia",
            "python",
        ),
        *("kernel", "native", "host", "main", "none", "null", "home"),
    )
)
"""Names of accounts that say nothing of anybody, or that are words of every trace."""
_SHORTEST: Final = 4
"""Letters of a user's or host's name that is looked for as a word; ``max`` is a function as well."""
_SHORTEST_SECRET: Final = 6

_STAND_INS: Final = tuple(f"({kind}" for kind in (PATH, ADDRESS, SECRET, USER, HOST, "removed"))
_HARMLESS: Final = re.compile(r"[\d.,_x-]{1,12}|\[.*|true|false|none|null|yes|no", re.IGNORECASE)
"""A token's value that is none: its number in a sequence, or a switch."""


@dataclass(slots=True)
class Replaced:
    """One personal text: what it is, what stands for it, and how often it was met."""

    kind: str
    original: str
    replacement: str
    times: int = 0


class Policy:
    """Replaces what is personal; remembers what it replaced, so that the same text always becomes the same words."""

    def __init__(self, users: Iterable[str] = (), hosts: Iterable[str] = ()) -> None:
        self._replaced: dict[tuple[str, str], Replaced] = {}
        self._counts: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._known: dict[str, str] = {}
        self._words: re.Pattern[str] | None = None
        for user in users:
            self._know(USER, user)
        for host in hosts:
            self._know(HOST, host)

    @classmethod
    def of_this_machine(cls) -> Policy:
        """One that knows this machine's user and host, as far as they can be found out."""
        users: set[str] = set()
        with suppress(OSError, KeyError, ImportError, RuntimeError):  # containers may run as a user without a name
            users |= {getpass.getuser(), Path.home().name}
        host = socket.gethostname()
        return cls(sorted(users), [host, host.partition(".")[0]])

    @property
    def replaced(self) -> tuple[Replaced, ...]:
        """What was replaced so far, in the order in which it was met."""
        return tuple(one for one in self._replaced.values() if one.times)

    def without_secrets(self, text: str) -> str:
        """`text` with its secrets alone hidden, for its owner's own screen, which a log may keep."""
        text = _ASSIGNED.sub(lambda m: f"{m[1] or m[4]}{m[2] or ''}...", _KEYS.sub("...", text))
        known = [word for word, kind in self._known.items() if kind == SECRET]
        return re.sub("|".join(map(re.escape, known)) or r"(?!)", "...", text, flags=re.IGNORECASE)

    def learn(self, text: str) -> None:
        """Take users from the home folders in `text`; users, hosts and secrets from the variables it sets."""
        for found in _HOME.finditer(text):
            self._know(USER, found[1] or found[2])
        for variable in _VARIABLE.finditer(text):
            self.learn_variable(variable[1], variable[2])

    def learn_variable(self, name: str, value: str) -> None:
        """As `learn`, of one variable of an environment, or one property of a system."""
        key = re.sub(r"\W+", "", name).lower()
        if key in _USERS:
            self._know(USER, re.split(r"[/\\]", value)[-1])
        elif key in _HOSTS:
            self._know(HOST, value)
            self._know(HOST, value.partition(".")[0])
        elif re.search(rf"{_KEYWORD}$", name, re.IGNORECASE):
            self._know(SECRET, value)

    def host(self, name: str) -> str:
        """What stands for `name`, which is a host's, whatever it looks like."""
        return self._stand_in(HOST, name)

    def name(self, text: str) -> str:
        """As `text`, of names: two that differ never become one, because names identify rows."""
        found = self._names.get(text)
        if found is None:
            found = clean = self.text(text)
            number = 1
            while found in self._taken:
                number += 1
                found = f"{clean} ({_letters(number)})"
            self._taken.add(found)
            self._names[text] = found
        return found

    def text(self, text: str, *, versions: bool = False) -> str:
        """`text` with everything personal replaced. `versions`: four numbers with dots are a version, not an address."""
        self.learn(text)
        if "://" in text:
            text = _URL.sub(lambda m: self._stand_in(ADDRESS, m[0]), text)
        if "/" in text or "\\" in text:
            text = _PATHS.sub(self._path, _QUOTED_PATH.sub(self._path, text))
        text = _ASSIGNED.sub(self._assigned, text)
        text = _BEARER.sub(lambda m: f"{m[1]} {self._secret(m[2])}", text)
        if "@" in text:
            text = _MAIL.sub(lambda m: self._stand_in(ADDRESS, m[0]), text)
        text = _KEYS.sub(lambda m: self._stand_in(SECRET, m[0]), text)
        if ":" in text:
            text = _MAC.sub(lambda m: self._stand_in(ADDRESS, m[0]), text)
            text = _IPV6.sub(self._ipv6, text)
        if "." in text:
            text = text if versions else _IPV4.sub(self._ipv4, text)
            text = _DOMAIN.sub(lambda m: self._stand_in(ADDRESS, m[0]), text)
        return self._known_words(text)

    def _know(self, kind: str, word: str) -> None:
        word = word.strip().strip("'\"")
        least = _SHORTEST_SECRET if kind == SECRET else _SHORTEST
        if len(word) < least or word.lower() in _COMMON or word.lower() in self._known or word.startswith("("):
            return
        if kind == SECRET and _HARMLESS.fullmatch(word) and len(word) < 8:
            return
        self._known[word.lower()] = kind
        self._words = None

    def _known_words(self, text: str) -> str:
        if self._words is None:
            self._words = _any_of(self._known)
        return self._words.sub(lambda m: self._stand_in(self._known[m[0].lower()], m[0]), text)

    def _assigned(self, found: re.Match[str]) -> str:
        before, value = (found[1] + found[2], found[3]) if found[1] else (found[4], found[5])
        bare = value.strip("'\"")
        if not bare or bare.startswith(_STAND_INS):
            return found[0]
        if before.lower().lstrip("-").startswith("token") and _HARMLESS.fullmatch(bare):
            return found[0]
        quote = value[0] if value[0] in "'\"" else ""
        return f"{before}{quote}{self._secret(bare)}{quote}"

    def _secret(self, value: str) -> str:
        self._know(SECRET, value)
        return self._stand_in(SECRET, value)

    def _path(self, found: re.Match[str]) -> str:
        whole = found[0]
        if whole.startswith("/") and _NODE.fullmatch(whole) and not _ROOTS.match(whole):
            return whole
        last = re.split(r"[/\\]", whole.rstrip("/\\"))[-1]
        if _FILE.fullmatch(last):
            return self._put(PATH, whole, last)
        return self._stand_in(PATH, whole.rstrip("/\\"))

    def _ipv4(self, found: re.Match[str]) -> str:
        return self._stand_in(ADDRESS, found[0]) if _is_address(found[0]) else found[0]

    def _ipv6(self, found: re.Match[str]) -> str:
        text = found[0]
        real = text.count(":") > 1 and any(c.isdigit() for c in text) and _is_address(text)
        return self._stand_in(ADDRESS, text) if real else text

    def _stand_in(self, kind: str, original: str) -> str:
        key = (kind, original.lower() if kind in (USER, HOST) else original)
        if key not in self._replaced:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            return self._put(kind, key[1], f"({kind} {_letters(self._counts[kind])})")
        return self._put(kind, key[1], "")

    def _put(self, kind: str, original: str, replacement: str) -> str:
        one = self._replaced.setdefault((kind, original), Replaced(kind, original, replacement))
        one.times += 1
        return one.replacement


def _any_of(known: Mapping[str, str]) -> re.Pattern[str]:
    """What finds the words of `known`, each with its kind, the longest first: users and hosts as words, secrets anywhere."""
    parts = [
        re.escape(word)
        if kind == SECRET
        else rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z{'0-9' if word[-1].isdigit() else ''}])"
        for word, kind in sorted(known.items(), key=lambda item: -len(item[0]))
    ]
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def _is_address(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _letters(number: int) -> str:
    """1 -> a, 26 -> z, 27 -> aa."""
    text = ""
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text
