"""One exchange with an OpenAI-compatible endpoint: bounded in time and bytes, however the other side behaves.

    environment      OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL; nothing is asked of an endpoint that nobody named
    time             the whole exchange, not each read: a reply that trickles ends as one that hangs
    bytes            counted as they come, before anything is unpacked or parsed
    key, address     replaced in every text that comes out of here

The client tries once. Whether to try again is the loop's business, which writes every exchange down.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from ...traces.documents import Kind, parse
from ...traces.errors import InputError, UsageError

VARIABLES: Final = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL")
REMOVED: Final = "(removed)"

MOST_BYTES: Final = 1 << 20
"""Of a reply. A file of a task has 20 kB; a model that reasons aloud writes a few hundred."""

CHAT: Final = Kind("a chat completion", MOST_BYTES, "ask again")

GOOD, DROPPED, LATE, STATUS, MALFORMED, LONG = "good", "dropped", "late", "status", "malformed", "too long"
"""How an exchange ends. All but the first may end otherwise the next time, `STATUS` depending on its number."""

AGAIN: Final = frozenset({408, 409, 425, 429, *range(500, 600)})
"""Status codes after which it makes sense to ask again."""

LEAST_KEY: Final = 8
"""Characters of a key worth hiding. Servers without keys are given words such as EMPTY, which may stand in a source."""

BYTES_PER_TOKEN: Final = 3
"""Of English and code it is about four: what nobody counted is counted rather too high."""

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one exchange. `text` is what the model said, `body` all that was received.

    `tokens` are those of prompt and answer: what the endpoint counted, or what the bytes amount to where that is more.
    """

    outcome: str
    text: str = ""
    why: str = ""
    body: str = ""
    status: int | None = None
    finish: str = ""
    tokens: int = 0
    retry_after_s: float | None = None

    @property
    def again(self) -> bool:
        """Whether asking once more may help."""
        return self.outcome != STATUS or self.status in AGAIN


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers. The key is in no representation of it."""

    base_url: str = field(repr=False)
    model: str
    key: str = field(repr=False)
    most_field: str = "max_tokens"
    """How the endpoint calls the most tokens of an answer; newer models of one vendor know ``max_completion_tokens`` alone."""

    def removed(self, text: str) -> str:
        """`text` without the key, and without the endpoint's host and the user in its address."""
        parts = urlsplit(self.base_url)
        key = self.key if len(self.key) >= LEAST_KEY else ""
        for secret in (key, self.base_url, parts.netloc, parts.hostname or "", parts.password or ""):
            if secret:
                text = text.replace(secret, REMOVED).replace(json.dumps(secret)[1:-1], REMOVED)
        return text

    def ask(self, messages: Sequence[Message], most_tokens: int, timeout_s: float) -> Reply:
        """One exchange, over after `timeout_s` at the latest. Nothing that the other side does is raised."""
        counted = prompt_tokens(messages)
        received = bytearray()
        found = _bounded(self, messages, most_tokens, timeout_s, received)
        body = _plain(bytes(received))
        return replace(
            found,
            text=self.removed(found.text),
            why=self.removed(found.why),
            body=self.removed(body),
            tokens=max(found.tokens, counted + _tokens(found.text or body)),
        )


def from_environment(environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint; raises `UsageError` naming what is missing."""
    missing = [name for name in VARIABLES if not environ.get(name, "").strip()]
    if missing:
        raise UsageError(
            f"--generator llm asks an OpenAI-compatible endpoint, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; set the address, the key and the model's name in the environment"
        )
    base_url, key, model = (environ[name].strip() for name in VARIABLES)
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
        raise UsageError("OPENAI_BASE_URL is not an address; write it like https://host/v1")
    if not (key.isascii() and key.isprintable()):
        raise UsageError("OPENAI_API_KEY has characters that no key has; set it again")
    try:
        import openai  # noqa: F401
    except ImportError as exc:
        raise UsageError("--generator llm needs the package openai; run `pip install 'aisp-trace[llm]'`") from exc
    return Endpoint(base_url, model, key)


def _plain(received: bytes) -> str:
    """The body; JSON written anew, so that no escape hides a key from `Endpoint.removed`."""
    try:
        return json.dumps(parse(received, CHAT, "the reply"))
    except InputError:
        return received.decode(errors="replace")


def prompt_tokens(messages: Sequence[Message]) -> int:
    """What a prompt amounts to where nobody counted it."""
    return _tokens("".join(message["content"] for message in messages))


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)


# -- the exchange ------------------------------------------------------------------------------------------------------


class _TooLong(Exception):
    """More bytes came than a reply may have."""


def _bounded(
    endpoint: Endpoint, messages: Sequence[Message], most_tokens: int, timeout_s: float, received: bytearray
) -> Reply:
    import openai

    async def within() -> Reply:
        return await asyncio.wait_for(_exchange(endpoint, messages, most_tokens, timeout_s, received), timeout_s)

    try:
        return asyncio.run(within())
    except (TimeoutError, openai.APITimeoutError):
        return Reply(LATE, why=f"the reply was not there after {timeout_s:.0f} s")
    except Exception as exc:  # among them the client's own surprises at what it was sent
        if len(received) > MOST_BYTES:
            return Reply(LONG, why=f"the reply is longer than {MOST_BYTES:,} bytes")
        return _failed(exc, received)


def _failed(exc: Exception, received: bytearray) -> Reply:
    """How an exchange ended that raised `exc`."""
    import openai

    if isinstance(exc, openai.APIStatusError):
        after = exc.response.headers.get("retry-after", "")
        wait = float(after) if after.replace(".", "", 1).isdecimal() else None
        said = " ".join(received.decode(errors="replace").split())[:300]
        return Reply(STATUS, why=f"status {exc.status_code}: {said}", status=exc.status_code, retry_after_s=wait)
    if isinstance(exc, openai.OpenAIError):
        cause = exc.__cause__ or exc
        return Reply(DROPPED, why=f"the connection failed: {type(cause).__name__}: {str(cause)[:200]}")
    return Reply(DROPPED, why=f"the reply could not be read: {type(exc).__name__}: {str(exc)[:200]}")


async def _exchange(
    endpoint: Endpoint, messages: Sequence[Message], most_tokens: int, timeout_s: float, received: bytearray
) -> Reply:
    import openai

    hooks = {"response": [_counting(received)]}
    http = openai.DefaultAsyncHttpx2Client(event_hooks=hooks, follow_redirects=False, timeout=timeout_s)
    async with openai.AsyncOpenAI(
        api_key=endpoint.key, base_url=endpoint.base_url, max_retries=0, timeout=timeout_s, http_client=http
    ) as client:
        asked: Any = {endpoint.most_field: most_tokens}
        await client.chat.completions.with_raw_response.create(
            model=endpoint.model,
            messages=[dict(message) for message in messages],  # type: ignore[misc]
            extra_headers={"Accept-Encoding": "identity"},
            **asked,
        )
    return read_reply(bytes(received))


def _counting(received: bytearray) -> Any:
    """A hook that puts a count of bytes before whoever reads a response."""
    import httpx2

    class Counted(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                received.extend(chunk[: MOST_BYTES + 1 - len(received)])
                if len(received) > MOST_BYTES:
                    raise _TooLong
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def hook(response: Any) -> None:
        response.headers.pop("content-encoding", None)  # nothing is unpacked: that was not asked for
        response.stream = Counted(response.stream)

    return hook


def read_reply(data: bytes) -> Reply:
    """What a body says, if it is a chat completion with text."""
    try:
        found = parse(data, CHAT, "the reply")
        choice = found["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
    except InputError as exc:
        return Reply(MALFORMED, why=str(exc)[:300])
    except (KeyError, IndexError, TypeError, AttributeError):
        return Reply(MALFORMED, why="the reply is not a chat completion: it has no text of a first choice")
    if isinstance(text, list):  # some endpoints send it in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if not isinstance(text, str):
        return Reply(MALFORMED, why="the reply is not a chat completion: what the model said is not text")
    usage = found.get("usage")
    counted = usage.get("total_tokens") if isinstance(usage, dict) else None
    tokens = counted if isinstance(counted, int) and not isinstance(counted, bool) and counted > 0 else 0
    return Reply(GOOD, text, status=200, finish=str(finish or ""), tokens=tokens)
