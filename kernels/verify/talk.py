"""Questions of the verifier and answers of the candidate's process: one JSON object a line over a socket of the file system.

    parent   {"do": "call", "token": ..., "seed": ...}         child   {"token": ..., "event_ns": ..., "objections": []}

Strictly in turn: each answer repeats the token of its question, and nothing may lie in the socket when a question is asked. So
what a candidate writes there itself is noticed, unless it answers exactly in the child's place.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ...traces.documents import CHILD, parse
from ...traces.errors import InputError

MOST_BYTES: Final = 1 << 20
"""Of one line."""


class TalkError(Exception):
    """The other side is gone, silent, or says what was not asked. `code` is a word for the kind."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Talk:
    """One end of the conversation."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._rest = b""

    def close(self) -> None:
        """Say no more."""
        self._socket.close()

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises `TalkError` if nobody is there."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as exc:
            raise TalkError("ended", "the process ended before it was asked to") from exc

    def receive(self, timeout_s: float | None) -> dict[str, Any]:
        """The next line; null waits for ever. Raises `TalkError`."""
        self._socket.settimeout(timeout_s)
        while b"\n" not in self._rest:
            try:
                new = self._socket.recv(1 << 16)
            except TimeoutError as exc:
                raise TalkError("hung", f"it did not answer within {timeout_s:g} s") from exc
            except OSError as exc:
                raise TalkError("ended", "the process ended before it was asked to") from exc
            if not new:
                raise TalkError("ended", "the process ended before it was asked to")
            self._rest += new
            if len(self._rest) > MOST_BYTES:
                raise TalkError("talked", "it wrote more into the verifier's socket than an answer can have")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = parse(line, CHILD, "the answer")
        except InputError as exc:
            raise TalkError("talked", "it wrote something into the verifier's socket that is not an answer") from exc
        if not isinstance(found, dict):
            raise TalkError("talked", "it wrote something into the verifier's socket that is not an answer")
        return found

    def ask(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send `message` under a token of its own and wait for the answer with the same one. Raises `TalkError`."""
        self._refuse_waiting()
        token = os.urandom(12).hex()
        self.send({**message, "token": token})
        answer = self.receive(timeout_s)
        if answer.get("token") != token:
            raise TalkError("talked", "it answered something that was not asked, in the verifier's socket")
        return {**answer, "token": token}

    def _refuse_waiting(self) -> None:
        """Raise if something lies in the socket already."""
        self._socket.setblocking(False)
        try:
            waiting = self._rest or self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as exc:
            raise TalkError("ended", "the process ended before it was asked to") from exc
        finally:
            self._socket.setblocking(True)
        if waiting:
            raise TalkError("talked", "it wrote into the verifier's socket although nothing had been asked")
        raise TalkError("ended", "the process ended before it was asked to")


class Door:
    """Where the child comes in: once, by a socket in a folder of this user's alone."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "talk"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._listener.settimeout(0.2)

    def accept(self) -> tuple[Talk, int] | None:
        """The conversation and the process's number as the system knows it; null if nobody came within a moment."""
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return None
        self.close()
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return Talk(connection), struct.unpack("3i", packed)[0]

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()
        self.path.unlink(missing_ok=True)


def knock(path: str) -> Talk:
    """The child's end of the conversation behind the door `path`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    return Talk(connection)
