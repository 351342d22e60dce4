"""Rounds of prompt, reply, compiler and verifier, until a bound is reached.

    template verified? -> [ prompt -> exchange, again where it failed -> source -> headers -> compiler -> verifier ] x rounds

Each step that fails is recorded with its reason and goes into the next prompt. Only a verified source can become the best.
Where candidates cannot run, the loop ends at the first that compiles: it waits to be verified elsewhere, and
`heard` takes the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ...capture.host import now_utc
from ...traces.errors import AispTraceError
from ...traces.version import version
from .. import emit
from ..emit import Part
from .endpoint import GOOD, Endpoint, Reply, prompt_tokens
from .judging import Judge, judged
from .prompt import Subject, messages
from .reply import NoSource, NotAllowed, part_in, source_in
from .result import (
    CANNOT_TELL,
    NO_SOURCE,
    NOT_ALLOWED,
    NOT_COMPILED,
    WAITING,
    Attempt,
    Generated,
)
from .session import Session

TRIES: Final = 4
"""Exchanges of one round that may fail one after the other before the endpoint is given up."""

PAUSE_S: Final = 2.0
"""Before the second try, twice as long before each further one, unless the endpoint says how long."""

REPLY_S: Final = 300.0
"""For one exchange. A model that reasons at length takes a minute or two."""

REPLY_TOKENS: Final = 16_000
"""The most of one answer: four times the longest template, and room for thinking."""

MOST_REPEATED: Final = 16 << 10
"""Characters of a rejected answer that the next prompt repeats."""

LEAST_TOKENS: Final = 500
"""An answer that may not have as many is not worth asking for."""

LEAST_S: Final = 1.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a session may take: rounds and tokens of all its commands together, seconds of this one."""

    rounds: int = 6
    seconds: float = 1200.0
    tokens: int = 200_000


class _Ended(Exception):
    """The loop is over; why, as a sentence."""


class Loop:
    """One command's rounds in a session. A long class because each method is one step of a round, on the same session."""

    def __init__(
        self,
        session: Session,
        subject: Subject,
        endpoint: Endpoint,
        judge: Judge,
        bounds: Bounds,
        say: Say = lambda text: None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._session, self._subject, self._endpoint = session, subject, endpoint
        self._judge, self._bounds, self._say, self._pause_s = judge, bounds, say, pause_s
        self._began = time.monotonic()

    def run(self) -> Generated:
        """Go on until a bound is reached, a candidate waits, or the endpoint fails. What an interrupt leaves is whole."""
        session = self._session
        try:
            self._measure_template()
            while True:
                self._round()
        except _Ended as exc:
            ended = str(exc)
        session.save()
        return Generated(
            session.task,
            session.dtype,
            session.arch,
            session.model,
            session.attempts,
            session.best,
            session.waiting,
            ended,
            session.rounds,
            session.tokens,
            time.monotonic() - self._began,
        )

    def _measure_template(self) -> None:
        """Verify and time what the model is to beat, once a session."""
        template = self._session.attempts[0]
        if self._judge.runs and template.outcome == WAITING:
            self._say("verifying the template")
            self._verify(template)

    def _round(self) -> None:
        session, bounds = self._session, self._bounds
        if session.rounds >= bounds.rounds:
            raise _Ended(f"all {bounds.rounds} rounds are over")
        if self._left() < LEAST_S:
            raise _Ended(f"the {bounds.seconds:g} s are over")
        session.rounds += 1
        attempt = Attempt(session.rounds, NO_SOURCE)
        session.attempts.append(attempt)
        session.save()
        try:
            reply = self._asked(attempt)
        except _Ended:
            if not attempt.exchanges:  # nothing was asked, so there was no round
                session.attempts.pop()
                session.rounds -= 1
            raise
        try:
            source = source_in(reply.text, reply.finish)
            session.keep_answer(attempt, source)
            self._try(attempt, part_in(source, session.model))
        except NoSource as exc:
            attempt.why, attempt.told = str(exc), [f"Nothing could be tried: {exc}."]
        except NotAllowed as exc:
            attempt.outcome, attempt.why = NOT_ALLOWED, str(exc)
            attempt.told = [f"It was not compiled: {exc}."]
        session.save()
        self._say(f"attempt {attempt.number}: {attempt.outcome}" + (f" ({attempt.why})" if attempt.why else ""))
        if attempt.outcome == WAITING:
            raise _Ended("a candidate waits to be verified")

    # -- one attempt ---------------------------------------------------------------------------------------------------

    def _try(self, attempt: Attempt, part: Part) -> None:
        """Compile and verify `part` in its frame."""
        session = self._session
        text = emit.generated(self._subject.task, session.settings, session.arch, version(), part)
        content = text.encode()
        file = session.keep(attempt, content)
        twin = next((one for one in session.attempts if one.sha256 == attempt.sha256 and one is not attempt), None)
        if twin is not None:
            attempt.outcome, attempt.why, attempt.times_ns, attempt.shares = (
                twin.outcome,
                twin.why,
                twin.times_ns,
                twin.shares,
            )
            attempt.told = [f"It is attempt {twin.number} again, word for word.", *twin.told]
            return
        if said := self._judge.compile(file, max(self._left(), LEAST_S)):
            attempt.outcome, attempt.why = NOT_COMPILED, said.splitlines()[0][:200]
            attempt.told = ["The compiler said (lines of the whole file):", said]
            return
        attempt.outcome = WAITING
        attempt.told = ["It compiles, and was not run yet."]
        if self._judge.runs:
            self._verify(attempt)

    def _verify(self, attempt: Attempt) -> None:
        if self._left() < LEAST_S:
            attempt.outcome, attempt.why = CANNOT_TELL, "no time was left to verify it"
            return
        try:
            judged(attempt, self._judge.verify(self._session.folder / attempt.file, self._left()))
        except (AispTraceError, RuntimeError) as exc:  # torch's own, of a device that a candidate left broken
            attempt.outcome, attempt.why = CANNOT_TELL, f"{exc}"[:300]
            attempt.told = ["It could not be verified."]
        self._session.save()

    # -- exchanges -----------------------------------------------------------------------------------------------------

    def _asked(self, attempt: Attempt) -> Reply:
        """A good reply; raises `_Ended` when a bound is reached first."""
        session, prompt = self._session, self._prompt()
        for number in range(1, TRIES + 1):
            reply = self._exchange(attempt, prompt)
            if reply.outcome == GOOD:
                return reply
            attempt.why = reply.why
            if (
                reply.status == 400
                and "max_completion_tokens" in reply.why
                and self._endpoint.most_field == "max_tokens"
            ):
                self._endpoint = replace(self._endpoint, most_field="max_completion_tokens")
                continue
            if not reply.again:
                raise _Ended(f"the endpoint refuses: {reply.why}")
            self._say(f"exchange {session.exchanges}: {reply.why}")
            if number < TRIES:
                self._wait(reply.retry_after_s, number)
        raise _Ended(f"the endpoint failed {TRIES} times in a row, at last: {attempt.why}")

    def _exchange(self, attempt: Attempt, prompt: list[dict[str, str]]) -> Reply:
        """One exchange, written down before and after."""
        session, bounds = self._session, self._bounds
        most = min(bounds.tokens - session.tokens - prompt_tokens(prompt), REPLY_TOKENS)
        if most < LEAST_TOKENS:
            raise _Ended(f"of {bounds.tokens:,} tokens {session.tokens:,} are spent, and too few are left for a round")
        timeout_s = min(REPLY_S, self._left())
        if timeout_s < LEAST_S:
            raise _Ended(f"the {bounds.seconds:g} s are over")
        session.exchanges += 1
        number = session.exchanges
        record: dict[str, Any] = {
            "round": attempt.number,
            "model": session.model,
            "created_utc": now_utc(),
            "messages": prompt,
            "most_tokens": most,
            "outcome": "sent",
        }
        attempt.exchanges = [*attempt.exchanges, session.log(number, record)]
        session.save()
        self._say(f"asking {session.model}, round {attempt.number} of {bounds.rounds}")
        began = time.monotonic()
        reply = self._endpoint.ask(prompt, most, timeout_s)
        session.tokens += reply.tokens
        record |= {
            "outcome": reply.outcome,
            "why": reply.why,
            "status": reply.status,
            "finish": reply.finish,
            "tokens": reply.tokens,
            "seconds": round(time.monotonic() - began, 3),
            "text": reply.text,
            "body": reply.body if reply.outcome != GOOD else "",
        }
        session.log(number, record)
        session.save()
        return reply

    def _prompt(self) -> list[dict[str, str]]:
        """What the model reads next, without the endpoint's key or address."""
        session = self._session
        best = session.best or session.attempts[0]
        last = session.attempts[-2] if len(session.attempts) > 2 and session.attempts[-2] is not best else None
        rejected = self._part(last) if last is not None and last.answer else ""
        if len(rejected) > MOST_REPEATED:
            rejected = ""
        found = messages(self._subject, best, self._part(best), last, rejected)
        return [{"role": one["role"], "content": self._endpoint.removed(one["content"])} for one in found]

    def _part(self, attempt: Attempt) -> str:
        """What a model may write of an attempt's file: the template's own, or the answer once more."""
        if attempt.number == 0:
            return emit.part_of(self._subject.task, self._session.settings).text
        return self._session.answer(attempt)

    def _wait(self, asked_s: float | None, number: int) -> None:
        wait_s = self._pause_s * 2 ** (number - 1) if asked_s is None else asked_s
        if wait_s > self._left() - LEAST_S:
            raise _Ended(f"the endpoint wants {wait_s:g} s of patience, and {max(self._left(), 0):.0f} s are left")
        time.sleep(wait_s)

    def _left(self) -> float:
        return self._bounds.seconds - (time.monotonic() - self._began)


def heard(session: Session, document: Mapping[str, Any], sha256: str) -> Attempt:
    """Write the result of a verification elsewhere into the attempt it is about, and save the session."""
    attempt = session.of(sha256)
    assert attempt is not None
    judged(attempt, document)
    session.save()
    return attempt
