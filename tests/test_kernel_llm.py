"""`kernels emit --generator llm` against a local server: sources, an endpoint that misbehaves, bounds, two machines."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.cli.main import main
from aisp_trace.kernels import build, emit, space
from aisp_trace.kernels.artifacts import digest_of
from aisp_trace.kernels.llm import stalls
from aisp_trace.kernels.llm.endpoint import Endpoint, read_reply
from aisp_trace.kernels.llm.judging import Here, judged
from aisp_trace.kernels.llm.loop import TRIES, Bounds, Loop
from aisp_trace.kernels.llm.prompt import Subject
from aisp_trace.kernels.llm.reply import NoSource, NotAllowed, part_in, source_in
from aisp_trace.kernels.llm.result import Attempt, Generated
from aisp_trace.kernels.llm.session import Session, begin, find, load
from aisp_trace.kernels.tasks import find as task_called
from aisp_trace.tests.builders.chat_server import (
    KEY,
    Server,
    Step,
    babbles,
    completion,
    drops,
    drops_within,
    fails,
    floods,
    hangs,
    says,
    sends,
    serving,
    trickles,
    trickles_headers,
)
from aisp_trace.traces.errors import InputError

pytest.importorskip("openai", reason="the extra `llm` is not installed")

try:
    NVCC: Path | None = build.find_nvcc()
except build.KernelError:
    NVCC = None

TASK: Final = task_called("saxpy")
SETTINGS: Final = {**space.defaults(TASK), "vector_bytes": 4, "unroll": 1}
"""The slow template: single elements, one a thread."""

SHAPE: Final = "count=134217728"

SIGNATURE: Final = emit.signature(TASK)
PLAIN: Final = f"""template <typename T> __global__ void plain(const T* x, const T* y, T* out, long long count) {{
    const long long i = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    if (i < count) out[i] = narrowed<T>(kA * widened(x[i]) + widened(y[i]));
}}
{emit.DIVIDER}
{SIGNATURE} {{
    return start(plain<T>, quotient_up(count, 256), dim3(256), 0, stream, x, y, out, count);
}}
"""


def fenced(source: str) -> str:
    return f"Some words.\n\n```cuda\n{source}```\n"


def variant(number: int) -> str:
    """A right source that differs from others."""
    return f"// {number}\n{PLAIN}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def endpoint(server: Server) -> Endpoint:
    return Endpoint(server.url, "local", KEY)


# -- one exchange ------------------------------------------------------------------------------------------------------

QUESTION: Final = [{"role": "user", "content": "Write a kernel."}]

EXCHANGES: Final[dict[str, tuple[Step, str, bool]]] = {
    "good": (says("text", usage={"total_tokens": 7}), "good", True),
    "in parts": (says([{"type": "text", "text": "te"}, {"type": "text", "text": "xt"}]), "good", True),
    "rate limit": (fails(429, "slow down", Retry_After="3"), "status", True),
    "server error": (fails(500), "status", True),
    "error that is not JSON": (sends(b"<html>bad gateway</html>", 502), "status", True),
    "wrong key": (fails(401, f"wrong key {KEY}"), "status", False),
    "redirect": (sends(b"", 307, Location="http://127.0.0.1:1/v1"), "status", False),
    "dropped": (drops, "dropped", True),
    "dropped within the body": (drops_within, "dropped", True),
    "no HTTP": (babbles, "dropped", True),
    "no JSON": (sends(b"{'choices': 1}"), "malformed", True),
    "cut off": (sends(json.dumps(completion("text")).encode()[:-20]), "malformed", True),
    "empty": (sends(b""), "malformed", True),
    "deep": (sends(b"[" * 100_000), "malformed", True),
    "no completion": (sends(b'{"choices": []}'), "malformed", True),
    "no text": (says(None), "malformed", True),
    "a number": (says(7), "malformed", True),
    "packed": (sends(b"\x1f\x8b\x08\0", Content_Encoding="gzip"), "malformed", True),
    "too long": (floods(), "too long", True),
    "error that is too long": (floods(500), "too long", True),
    "hangs": (hangs, "late", True),
    "trickles": (trickles, "late", True),
    "trickles headers": (trickles_headers, "late", True),
}
"""What the other side does -> how the exchange ends, and whether to ask again."""


@pytest.mark.parametrize("kind", EXCHANGES)
def test_an_exchange_ends_in_time_and_says_how(kind: str) -> None:
    step, outcome, again = EXCHANGES[kind]
    patient = outcome != "late"
    with serving(step) as server:
        reply = endpoint(server).ask(QUESTION, 100, 60.0 if patient else 1.0)
        (asked,) = server.requests
    assert (reply.outcome, reply.again) == (outcome, again), reply
    assert (reply.text == "text") == (outcome == "good") and bool(reply.why) == (outcome != "good")
    assert KEY not in repr(reply) and KEY not in repr(endpoint(server)) and "127.0.0.1" not in repr(reply)
    assert len(reply.body) <= (1 << 20) + 1 and reply.tokens >= 5
    assert asked["path"] == "/v1/chat/completions" and asked["headers"]["authorization"] == f"Bearer {KEY}"
    assert asked["body"]["model"] == "local" and asked["body"]["max_tokens"] == 100
    assert kind != "rate limit" or reply.retry_after_s == 3.0


def test_nobody_there() -> None:
    with serving(says("text")) as server:
        gone = endpoint(server)
    assert gone.ask(QUESTION, 100, 30.0).outcome == "dropped"


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": -5}, {"total_tokens": "9"}, {"total_tokens": True}, 3])
def test_tokens_that_nobody_counted_are_counted_here(usage: Any) -> None:
    with serving(says("x" * 3000, usage=usage)) as server:
        assert 1000 < endpoint(server).ask(QUESTION, 100, 60.0).tokens < 1100


def test_a_key_is_removed_however_it_is_written() -> None:
    escaped = json.dumps(completion(f"your key is {KEY}")).replace(KEY[:4], "\\u0073k-l")
    with serving(sends(escaped.encode())) as server:
        reply = endpoint(server).ask(QUESTION, 100, 60.0)
    assert reply.text == "your key is (removed)" and KEY not in reply.body
    assert read_reply(escaped.encode()).text.endswith(KEY)


# -- the source in a reply ---------------------------------------------------------------------------------------------


def test_the_last_block_with_a_launcher_is_the_source() -> None:
    first = fenced("launch_task 1\n")
    text = f"```\nother\n```\n{first}\r\n  ```c++\r\n  launch_task \u2192 2\r\n  ```\n```\nint x;\n```\n"
    assert source_in(text, "stop") == "  launch_task ? 2\n"
    for text, finish, says_so in (("no", "stop", "no fenced code block"), (fenced(PLAIN)[:-6], "length", "cut off")):
        with pytest.raises(NoSource, match=says_so):
            source_in(text, finish)


def test_a_source_is_taken_apart() -> None:
    part = part_in(f"#include <cuda_fp16.h>\n{PLAIN}", "a/b`c\n")
    assert part.headers == ("cuda_fp16.h",) and part.model == "a/b?c?"
    assert (
        part.device.startswith("template")
        and part.host.startswith("template")
        and emit.DIVIDER not in part.device + part.host
    )
    assert part_in(f"{SIGNATURE} {{ return 0; }}\n", "m").device == ""
    for source in ("x" * (65 << 10), '#include "/etc/passwd"\n', "#line 3\n"):
        with pytest.raises(NotAllowed):
            part_in(source, "m")


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
def test_a_template_s_own_part_makes_a_file_that_compiles_and_says_whose_it_is(tmp_path: Path) -> None:
    for name in ("rmsnorm", "plain"):
        task = TASK if name == "plain" else task_called(name)
        settings = space.defaults(task)
        source = f"#include <cuda_fp16.h>\n{PLAIN}" if name == "plain" else emit.part_of(task, settings).text
        text = emit.generated(task, settings, "sm_90", "0", part_in(source, "some/model"))
        assert emit.is_untouched_source(text.encode()) and "by a model (some/model)" in text
        file = tmp_path / f"{name}.cu"
        file.write_text(text, encoding="utf-8")
        assert Here("sm_90", None).compile(file, 60.0) == ""


# -- rounds ------------------------------------------------------------------------------------------------------------


def document(
    content: bytes, time_ns: float | None = 1000.0, *codes: str, text: str = "what was seen"
) -> dict[str, Any]:
    """A verification as `kernels verify --json` prints it, as far as it is read."""
    status = "refused" if codes else "verified"
    timing = {"shape": SHAPE, "time_ns": time_ns, "floor_ns": 400.0, "share_of_peak": 0.4, "kernels": 1.0}
    return {
        "schema": "aisp-trace/kernel-verification/1",
        "status": status,
        "headline": status,
        "task": "saxpy",
        "candidate": {"sha256": digest_of(content)},
        "reasons": [{"code": code, "text": text, "calls": 1} for code in codes],
        "timings": [timing] if not codes else [],
        "kernels": [{"name": "plain", "launches": 20, "sum_ns": 900}],
    }


@dataclass
class Scripted:
    """A judge that says what a test wants it to: by a word in the source, its time in ns, or codes of a refusal."""

    words: Mapping[str, Any] = field(default_factory=dict)
    runs: bool = True
    seen: list[bytes] = field(default_factory=list)

    def compile(self, file: Path, left_s: float) -> str:
        return "source.cu(9): error: no" if b"does_not_compile" in file.read_bytes() else ""

    def verify(self, file: Path, left_s: float) -> Mapping[str, Any]:
        content = file.read_bytes()
        self.seen.append(content)
        found = next((value for word, value in self.words.items() if word.encode() in content), 1000.0)
        if isinstance(found, Exception):
            raise found
        return document(content, None, *found) if isinstance(found, tuple) else document(content, found)


def new_session(root: Path) -> Session:
    session = Session(Path(), "saxpy", "float32", "sm_90", [SHAPE], SETTINGS, "local")
    template = emit.source(TASK, SETTINGS, "sm_90", "0").encode()
    begin(root, session, template)
    session.attempts.append(Attempt(0, "waiting"))
    session.keep(session.attempts[0], template)
    session.save()
    return session


def run(server: Server, root: Path, judge: Any, **bounds: Any) -> tuple[Generated, Session]:
    session = new_session(root)
    subject = Subject(TASK, "float32", "sm_90", [{"count": 1 << 27}], SETTINGS)
    loop = Loop(session, subject, endpoint(server), judge, Bounds(**{"seconds": 120.0, **bounds}), pause_s=0.01)
    found = loop.run()
    assert load(session.folder / "session.json").attempts == list(found.attempts)
    assert len(list(session.folder.glob("exchange-*.json"))) == len(server.requests), "every exchange is logged"
    assert not any(
        KEY in file.read_text() or server.url in file.read_text() for file in root.rglob("*") if file.is_file()
    )
    return found, session


def user(request: Mapping[str, Any]) -> str:
    """What the model was told in a request."""
    return str(request["body"]["messages"][1]["content"])


def test_rounds_feed_back_and_the_best_verified_is_kept(tmp_path: Path) -> None:
    steps = [
        says("I would rather not."),
        says(fenced("int does_not_compile;\n" + PLAIN)),
        says(fenced('#include "/etc/passwd"\n' + PLAIN)),
        says(fenced("// wrong\n" + PLAIN)),
        says(fenced("// fast\n" + PLAIN)),
        says(fenced("// slower\n" + PLAIN)),
        says(fenced("// fast\n" + PLAIN)),
    ]
    judge = Scripted({"// wrong": ("wrong",), "// fast": 500.0, "// slower": 800.0})
    with serving(*steps) as server:
        found, session = run(server, tmp_path, judge, rounds=7)
    assert [one.outcome for one in found.attempts] == [
        *("verified", "no source", "does not compile", "not allowed", "refused", "verified", "verified", "verified")
    ]
    assert found.best is not None and found.best.number == 5 and found.exit_code == 0
    assert found.ended == "all 7 rounds are over" and len(judge.seen) == 4, "the same source is not run again"
    assert b"// fast" in session.source(found.best)
    told = [user(request) for request in server.requests]
    assert "1.00 us by the trace, 0.40 us are the least" in told[0] and "Kernel plain: 20 launches, 100 %" in told[0]
    assert "has no fenced code block" in told[1]
    assert "source.cu(9): error: no" in told[2] and "int does_not_compile;" in told[2]
    assert "this header is not allowed" in told[3]
    assert "Refused for wrong: what was seen" in told[4]
    assert "The best so far, your attempt 5" in told[5] and "0.50 us by the trace" in told[5]
    assert "Your last answer, attempt 6: verified." in told[6] and "0.80 us" in told[6]
    kept = {file.name for file in session.folder.iterdir()}
    assert {"candidate-02.cu", "answer-03.cu", "candidate-04.cu"} <= kept and "candidate-03.cu" not in kept


def test_nothing_that_failed_is_a_result(tmp_path: Path) -> None:
    with serving(says(fenced("// a\n" + PLAIN)), says(fenced("// b\n" + PLAIN))) as server:
        found, _ = run(server, tmp_path, Scripted({"// ": ("library",), "Parameters": ("wrong",)}), rounds=2)
    assert found.best is None and found.exit_code == 1
    with serving(says(fenced(PLAIN))) as server:
        found, _ = run(server, tmp_path, Scripted({"Parameters": InputError("no driver")}), rounds=1)
    assert found.best is None and found.exit_code == 3
    assert [one.outcome for one in found.attempts] == ["cannot tell"] * 2 and found.attempts[1].why == "no driver"


def test_failed_exchanges_are_asked_again_and_logged(tmp_path: Path) -> None:
    steps = [fails(429, Retry_After="0.05"), drops, sends(b"?"), says(fenced(PLAIN))]
    with serving(*steps) as server:
        found, session = run(server, tmp_path, Scripted(), rounds=1)
    assert found.best is not None and session.exchanges == 4 and found.attempts[1].outcome == "verified"
    logged = [json.loads(file.read_text()) for file in sorted(session.folder.glob("exchange-*"))]
    assert [one["outcome"] for one in logged] == ["status", "dropped", "malformed", "good"]
    assert [one["status"] for one in logged] == [429, None, None, 200] and logged[2]["body"] == "?"
    assert logged[3]["messages"] == server.requests[3]["body"]["messages"] and PLAIN in logged[3]["text"]


@pytest.mark.parametrize(
    ("steps", "requests", "ended"),
    [
        ([fails(503)], TRIES, "the endpoint failed 4 times in a row, at last: status 503"),
        ([fails(401, f"wrong key {KEY}")], 1, "the endpoint refuses: status 401"),
        ([fails(429, Retry_After="9999")], 1, "the endpoint wants 9999 s of patience"),
        ([sends(b"")], TRIES, "the endpoint failed 4 times in a row"),
    ],
)
def test_an_endpoint_that_fails_ends_the_session(steps: list[Step], requests: int, ended: str, tmp_path: Path) -> None:
    with serving(*steps) as server:
        found, _ = run(server, tmp_path, Scripted(), rounds=9)
    assert len(server.requests) == requests and found.ended.startswith(ended)
    assert found.best is not None and found.best.number == 0, "what was verified before stays"
    assert KEY not in found.ended


def test_time_is_bounded(tmp_path: Path) -> None:
    with serving(trickles) as server:
        found, _ = run(server, tmp_path, Scripted(), seconds=2.5)
    assert found.attempts[-1].outcome == "no source", "the server would trickle on"
    assert "s are over" in found.ended or "s are left" in found.ended


def test_tokens_are_bounded(tmp_path: Path) -> None:
    steps = [says(fenced(variant(n)), usage={"total_tokens": 4000}) for n in range(9)]
    with serving(*steps) as server:
        found, session = run(server, tmp_path, Scripted(), rounds=9, tokens=14_000)
    assert 2 <= len(server.requests) <= 3 and session.tokens <= 14_000 and session.rounds == len(server.requests)
    assert "tokens" in found.ended
    assert all(request["body"]["max_tokens"] <= 14_000 for request in server.requests)


def test_an_endpoint_that_lies_about_tokens_ends_the_session(tmp_path: Path) -> None:
    with serving(says(fenced(PLAIN), usage={"total_tokens": 10**15})) as server:
        found, _ = run(server, tmp_path, Scripted(), rounds=9)
    assert len(server.requests) == 1 and "tokens" in found.ended and found.exit_code == 0


def test_the_newer_name_of_the_most_tokens_is_taken(tmp_path: Path) -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with serving(fails(400, message), says(fenced(PLAIN))) as server:
        run(server, tmp_path, Scripted(), rounds=1)
    assert "max_completion_tokens" in server.requests[1]["body"] and "max_tokens" not in server.requests[1]["body"]


def test_an_interrupt_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*words: Any) -> None:
        raise KeyboardInterrupt

    session = new_session(tmp_path)
    subject = Subject(TASK, "float32", "sm_90", [{"count": 1 << 27}], SETTINGS)
    monkeypatch.setattr(Endpoint, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Loop(session, subject, Endpoint("http://127.0.0.1:1/v1", "m", KEY), Scripted(), Bounds()).run()
    left = load(session.folder / "session.json")
    assert (
        left.rounds == 1
        and left.attempts[0].outcome == "verified"
        and left.attempts[1].exchanges == ["exchange-0001.json"]
    )
    assert json.loads((session.folder / "exchange-0001.json").read_text())["outcome"] == "sent"


def test_words_of_a_candidate_are_not_sent(tmp_path: Path) -> None:
    """What a source may have read while it ran, it may put into its errors."""
    attempt = Attempt(1, "waiting")
    judged(attempt, {**document(b"", None, "raised", "wrong", "unheard_of", text="root:x:0:0"), "kernels": []})
    assert attempt.told == ["Refused for raised: a call failed", "Refused for wrong: root:x:0:0"]
    judged(attempt, {"status": "splendid", "timings": "none", "reasons": [3], "kernels": None})
    assert attempt.outcome == "cannot tell" and attempt.told == []
    judged(attempt, document(b"", math.nan))
    assert attempt.outcome == "verified" and math.isinf(attempt.score_ns)


TYPO: Final = PLAIN.replace("quotient_up(count, 256)", "quotient_up(count, kBlock)")
COMPILER: Final = (
    'candidate-01.cu(191): error: identifier "kBlock" is undefined\n'
    "    return start(plain<T>, quotient_up(count, kBlock), dim3(256), 0, stream, x, y, out, count);"
)


def test_the_documentation_shows_a_whole_exchange(tmp_path: Path) -> None:
    """docs/kernels.md has the second exchange of this session, to the letter."""

    class Compiler(Scripted):
        runs = False

        def compile(self, file: Path, left_s: float) -> str:
            return COMPILER if b"kBlock" in file.read_bytes() else ""

    with serving(says(fenced(TYPO)), says(fenced(PLAIN))) as server:
        found, session = run(server, tmp_path, Compiler(runs=False), rounds=2)
    assert found.waiting is not None and found.exit_code == 3
    logged = json.loads((session.folder / "exchange-0002.json").read_text())
    parts = [f"-- {one['role']} --\n{one['content']}" for one in logged["messages"]]
    text = "\n".join([*parts, f"-- assistant --\n{logged['text']}"])
    page = (Path(__file__).resolve().parents[1] / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert text.strip() in page


NCU: Final = """==PROF== Connected to process 7
"ID","Process ID","Kernel Name","Grid Size","smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio",\
"smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",\
"smsp__average_warps_issue_stalled_long_scoreboard_not_issued_per_issue_active.ratio"
"","","","","inst","inst","inst"
"0","7","void at::native::vectorized_elementwise_kernel<4>(int)","(1, 1, 1)","1","2","3"
"1","7","void plain<float>(const T1 *)","(1, 1, 1)","0.01","1,012.25","99"
"2","7","void plain<float>(const T1 *)","(1, 1, 1)","n/a","7.5","99"
"""
"""The form of ncu's raw page as a table, put together by hand: no GPU has been profiled for it."""


def test_stalls_are_told_of_the_kernel_s_own_launches() -> None:
    words = ["Stalls of void plain<float>(const T1 *), cycles an issued instruction: long scoreboard 1012.2"]
    assert stalls.told(NCU) == words
    assert stalls.told("==ERROR== ERR_NVGPUCTRPERM") == stalls.told("") == []
    attempt = Attempt(1, "waiting")
    judged(attempt, {**document(b""), "stalls": words})
    assert attempt.told[-1:] == words


# -- the command -------------------------------------------------------------------------------------------------------

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run ``aisp-trace kernels emit saxpy --generator llm`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str, server: Server | None = None) -> tuple[int, str, str]:
        if server is not None:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            monkeypatch.setenv("OPENAI_MODEL", "local")
        code = main(["kernels", "emit", "saxpy", "--generator", "llm", *words])
        shown = capsys.readouterr()
        assert KEY not in shown.out + shown.err
        return code, shown.out, shown.err

    return run


def test_a_dry_run_shows_the_first_prompt_and_asks_nobody(call: Call, tmp_path: Path) -> None:
    code, out, _ = call("--dry-run", "--dtype", "bfloat16")
    assert code == 0 and out.startswith("-- system --\n") and list(tmp_path.iterdir()) == []
    for line in emit.part_of(TASK, space.defaults(TASK)).text.splitlines():
        assert line.rstrip() in out
    assert "a * x + y, element by element" in out and SIGNATURE in out and "bfloat16" in out
    assert f"{TASK.bytes(TASK.shapes[0], 'bfloat16'):,} bytes" in out


@pytest.mark.parametrize(
    ("words", "says_so"),
    [
        (["-o", "a.cu"], "OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL are not set"),
        ([], "name the file to write with -o, or see the first prompt with --dry-run"),
        (["-o", "a.cpp"], "does not end with .cu"),
        (["--dtype", "int4", "--dry-run"], "saxpy has no dtype 'int4'"),
        (["--shape", "rows=3", "--dry-run"], "write count=N"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_sent(
    words: list[str], says_so: str, call: Call, tmp_path: Path
) -> None:
    code, _, err = call(*words)
    assert code == 2 and says_so in err and list(tmp_path.iterdir()) == []


def test_a_template_takes_no_words_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, says_so in (
        (["--rounds", "3", "-o", "a.cu"], "--rounds is for --generator llm"),
        (["--run-untrusted", "-o", "a.cu"], "--run-untrusted is for --generator llm"),
        (["--generator", "gpt", "-o", "a.cu"], "no generator is called 'gpt'; generators are template and llm"),
        ([], "name the file to write with -o"),
    ):
        assert main(["kernels", "emit", "saxpy", *words]) == 2
        assert says_so in capsys.readouterr().err


def test_candidates_do_not_run_without_a_gpu(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aisp_trace.kernels.bench import gpu

    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    with serving(says("no")) as server:
        code, _, err = call("-o", "a.cu", "--run-untrusted", server=server)
    assert (
        code == 2
        and "torch sees none here; leave it out" in err
        and server.requests == []
        and list(tmp_path.iterdir()) == []
    )


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
def test_two_machines_take_turns(call: Call, tmp_path: Path) -> None:
    """emit here, verify there, the result back by file: refused once, verified twice, and the best is written."""
    bad = fenced(PLAIN.replace("quotient_up(count, 256)", "quotient_up(count, nothing)"))
    steps = [says(bad), *(says(fenced(variant(n))) for n in (1, 2, 3))]
    words = ["-o", "a.cu", "--rounds", "4", "--shape", SHAPE]
    file, result = tmp_path / "a.cu", tmp_path / "result.json"
    with serving(*steps) as server:
        code, out, _ = call(*words, server=server)
        assert code == 3 and "NOT VERIFIED: a.cu" in out and "--run-untrusted --json > result.json" in out
        assert b"// 1\n" in file.read_bytes(), "the first that compiles"
        told = user(server.requests[1])
        assert (
            'error: identifier "nothing" is undefined' in told
            and "return start(plain<T>, quotient_up(count, nothing)" in told
        )
        assert "/usr" not in told and str(tmp_path) not in told

        def back(*codes: str, time_ns: float = 1.0) -> tuple[int, str, str]:
            result.write_text(json.dumps(document(file.read_bytes(), time_ns, *codes)), encoding="utf-8")
            return call(*words, "--result", "result.json", server=server)

        code, out, _ = back("guards")
        assert code == 3 and b"// 2\n" in file.read_bytes() and "Refused for guards" in user(server.requests[2])
        code, out, _ = back(time_ns=700.0)
        assert code == 3 and b"// 3\n" in file.read_bytes() and "0.70 us by the trace" in user(server.requests[3])
        code, out, _ = back(time_ns=900.0)
        assert code == 0 and b"// 2\n" in file.read_bytes(), "the best verified one, not the last"
        assert "best, verified: attempt 3" in out and "all 4 rounds are over" in out
        assert len(server.requests) == 4
        result.write_text(json.dumps(document(b"another")), encoding="utf-8")
        assert "no session of saxpy" in call(*words, "--result", "result.json", server=server)[2]
    (session,) = (tmp_path / "artifacts" / "kernels" / "saxpy").glob("*/llm-001")
    assert len(list(session.glob("exchange-*.json"))) == 4
    assert not any(KEY.encode() in one.read_bytes() for one in tmp_path.rglob("*") if one.is_file())
    assert emit.is_untouched_source(file.read_bytes())
    assert find(tmp_path / "artifacts", "saxpy", digest_of(file.read_bytes())).folder.resolve() == session.resolve()


@pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
def test_a_hostile_source_shows_nothing_of_this_machine(call: Call, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("swordfish hunter2\n", encoding="utf-8")
    hostile = [f'#include "{secret}"', f'asm(".inc" "lude \\"{secret}\\"");', f'#line 1 "{secret}"\nint x = y;']
    with serving(*(says(fenced(f"{line}\n{PLAIN}")) for line in hostile), says(fenced(PLAIN))) as server:
        code, out, err = call("-o", "a.cu", server=server)
    assert code == 3 and len(server.requests) == 4
    said = [json.dumps(request["body"]) for request in server.requests] + [out, err]
    said += [one.read_text() for one in (tmp_path / "artifacts").rglob("*") if one.is_file()]
    assert not any(word in text for text in said for word in ("swordfish", "hunter2"))
    (session,) = (tmp_path / "artifacts").glob("kernels/saxpy/*/llm-001")
    outcomes = [one.outcome for one in load(session / "session.json").attempts]
    assert outcomes == ["waiting", "not allowed", "does not compile", "not allowed", "waiting"]
