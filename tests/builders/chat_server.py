"""A local server that speaks the protocol of chat completions, and does what a script says: answers, fails, or misbehaves.

One step is taken for each request, the last one for all that follow. `requests` keeps what came: headers and the parsed body.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

KEY: Final = "sk-local-0123456789abcdef"

Step = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Answers by `steps`; `over` ends those that would go on for ever."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps, self.requests, self.over = list(steps), list[dict[str, Any]](), threading.Event()

    @property
    def url(self) -> str:
        """What OPENAI_BASE_URL has to be."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is not an error here."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server

    def do_POST(self) -> None:
        """Keep the request, and take the next step."""
        body = self.rfile.read(int(self.headers["content-length"]))
        number = len(self.server.requests)
        self.server.requests.append(
            {
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": json.loads(body),
            }
        )
        with suppress(OSError):
            self.server.steps[min(number, len(self.server.steps) - 1)](self)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def head(self, status: int = 200, **headers: object) -> None:
        """Status line and headers."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def whole(self, data: bytes, status: int = 200, **headers: object) -> None:
        """A complete response."""
        self.head(status, Content_Length=len(data), **headers)
        self.wfile.write(data)


@contextmanager
def serving(*steps: Step) -> Iterator[Server]:
    """The server, while inside."""
    server = Server(steps)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


# -- steps -------------------------------------------------------------------------------------------------------------


def completion(content: Any, *, finish: str = "stop", usage: Any = None) -> dict[str, Any]:
    """A chat completion as endpoints send it."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def says(content: Any, *, finish: str = "stop", usage: Any = None) -> Step:
    """A good reply."""
    return lambda handler: handler.whole(json.dumps(completion(content, finish=finish, usage=usage)).encode())


def sends(data: bytes, status: int = 200, **headers: object) -> Step:
    """These bytes."""
    return lambda handler: handler.whole(data, status, **headers)


def fails(status: int, message: str = "no", **headers: object) -> Step:
    """A status, with an error as endpoints send it."""
    return sends(json.dumps({"error": {"message": message}}).encode(), status, **headers)


def drops(handler: Handler) -> None:
    """The connection closes before anything is said."""


def drops_within(handler: Handler) -> None:
    """It closes in the middle of the body."""
    handler.head(Content_Length=10_000)
    handler.wfile.write(b'{"choices": [')


def babbles(handler: Handler) -> None:
    """Something that is not HTTP."""
    handler.wfile.write(b"\0\1\2 hello\r\n\r\n")


def hangs(handler: Handler) -> None:
    """Nothing is said, and the connection stays."""
    handler.server.over.wait()


def trickles(handler: Handler) -> None:
    """A byte of the body now and then, without end."""
    handler.head(Content_Length=1 << 20)
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def trickles_headers(handler: Handler) -> None:
    """A header now and then, without end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"x: y\r\n"[:1])
        handler.wfile.flush()


def floods(status: int = 200) -> Step:
    """A body without end, as fast as it is read."""

    def step(handler: Handler) -> None:
        handler.head(status)
        while not handler.server.over.is_set():
            handler.wfile.write(b" " * (1 << 16))

    return step
