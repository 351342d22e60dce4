"""A whole session on a processor: the slow template, sources that are wrong, hang, crash or take all memory, and a faster one.

g++ compiles candidates against ``tests/emulation``, and the verifier's own child runs them. Only a GPU's recording makes a
verdict ``verified``; here the emulation's clock stands in for it, so these times say nothing of any GPU.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.kernels import build, emit, space
from aisp_trace.kernels.artifacts import digest_of
from aisp_trace.kernels.llm.endpoint import Endpoint
from aisp_trace.kernels.llm.loop import Bounds, Loop
from aisp_trace.kernels.llm.prompt import Subject
from aisp_trace.kernels.llm.result import Attempt
from aisp_trace.kernels.llm.session import Session, begin
from aisp_trace.kernels.tasks import find
from aisp_trace.kernels.untrusted import sealed
from aisp_trace.tests.builders.chat_server import KEY, says, serving

pytest.importorskip("torch")
pytest.importorskip("openai", reason="the extra `llm` is not installed")
if shutil.which("g++") is None:
    pytest.skip("there is no g++", allow_module_level=True)

from aisp_trace.kernels.verify import verdict
from aisp_trace.kernels.verify.evidence import Asked, Candidate
from aisp_trace.kernels.verify.limits import MemoryLimits
from aisp_trace.kernels.verify.plan import make_plan
from aisp_trace.kernels.verify.process import Child

ROOT: Final = Path(__file__).resolve().parents[1]
TASK: Final = find("saxpy")
SLOW: Final = {**space.defaults(TASK), "vector_bytes": 4, "unroll": 1}
FAST: Final = {**space.defaults(TASK), "vector_bytes": 16, "unroll": 8}

SILENT_S: Final = 30.0
"""Without a word for so long a candidate hangs. On a busy machine honest ones took ten seconds to compile and start."""

ANNOUNCING: Final = """
#define aisp_launch emulated_launch
#include "source.cu"
#undef aisp_launch
extern "C" int aisp_launch(int dtype, const void* const* in, void* const* out, const long long* sizes, void* stream) {
    const size_t bytes = static_cast<size_t>(sizes[0]) * (dtype == 0 ? 4 : 2);
    emulated_forget();
    for (const void* one : {in[0], in[1], static_cast<const void*>(out[0])}) emulated_announce(const_cast<void*>(one), bytes);
    const int code = emulated_launch(dtype, in, out, sizes, stream);
    return *emulated_fault() ? 719 : code;
}
"""
"""Tells the emulation of the operands, as a GPU knows its memory by itself."""


@dataclass
class Emulated:
    """A judge that compiles with g++ and verifies on a processor."""

    folder: Path
    runs: bool = True
    made: dict[str, Path] = field(default_factory=dict)

    def compile(self, file: Path, left_s: float) -> str:
        """As nvcc would: in a folder of its own, messages stripped."""
        content = file.read_bytes()
        library = self.folder / f"{digest_of(content)}.so"
        flags = [
            "-std=c++17",
            "-O1",
            "-Wall",
            "-Werror",
            "-Wno-unknown-pragmas",
            "-Wno-maybe-uninitialized",
            "-shared",
            "-fPIC",
        ]
        with sealed(content) as box:
            (box.folder / "whole.cpp").write_text(ANNOUNCING, encoding="utf-8")
            command = [
                str(shutil.which("g++")),
                *flags,
                f"-I{ROOT / 'tests' / 'emulation'}",
                "whole.cpp",
                "-o",
                str(library),
            ]
            try:
                box(command)
            except build.CompileError as exc:
                return exc.said
        self.made[digest_of(content)] = library
        return ""

    def verify(self, file: Path, left_s: float) -> Mapping[str, Any]:
        """The verifier's child and its verdict; "cannot tell" for want of a recording alone counts as verified."""
        digest, chance = digest_of(file.read_bytes()), random.Random(1)
        if digest not in self.made:
            assert self.compile(file, left_s) == ""
        candidate = Candidate(file, self.made[digest], digest, None, "g++")
        asked = Asked(file, TASK.name, "float32", device="cpu", calls=2)
        plan = make_plan(TASK, "float32", "cpu", (), 2, False, chance)
        limits = MemoryLimits(host_bytes=2 << 30)
        with tempfile.TemporaryDirectory() as name:
            child = Child(Path(name), TASK, "float32", "cpu", candidate, left_s, SILENT_S, limits)
            heard, _, _ = child.run(plan, None, chance)
            compared = verdict.compare_all(heard.spoken, TASK, "float32", "cpu")
            common = verdict.Common(asked, TASK, "float32", "cpu", digest, {})
            found = verdict.reach(common, plan, heard, compared, None, "emulated", candidate, ()).document()
        if found["status"] == "cannot tell" and not found["reasons"]:
            found["status"] = "verified"
            for timing in found["timings"]:
                timing["time_ns"] = timing["event_ns"]
        return found


PLAIN: Final = emit.part_of(TASK, FAST).text.replace("kVectorBytes", "16").replace("kUnroll", "8")
LAUNCH: Final = f"{emit.signature(TASK)} {{"


def launcher(body: str) -> str:
    """The fast part, whose launcher does something else first."""
    assert PLAIN.count(LAUNCH) == 1
    return PLAIN.replace(LAUNCH, f"{LAUNCH}\n    {body}")


def answer(source: str) -> Any:
    return says(f"```cuda\n{source}\n```")


ANSWERS: Final[dict[str, tuple[str, str, str]]] = {
    "wrong": (PLAIN.replace("kA * widened(xs", "2.0f * widened(xs"), "refused", "Refused for wrong"),
    "hangs": (launcher("for (volatile int i = 0;; i = 1) if (i == 2) break;"), "refused", "Refused for hung"),
    "crashes": (launcher("if (count > 0) std::abort();"), "refused", "Refused for crashed"),
    "greedy": (
        launcher(
            "static std::vector<std::vector<char>> kept;\n"
            "    for (int i = 0; i < 64; ++i) kept.emplace_back(size_t{64} << 20, 'x');"
        ),
        "refused",
        "Refused for memory",
    ),
    "does not compile": (PLAIN.replace("count);", "cuont);", 1), "does not compile", "'cuont' was not declared"),
    "fast": (PLAIN, "verified", "Measured at count="),
}
"""What the model answers, one after the other: what becomes of it, and what it hears next."""


@pytest.mark.parametrize(
    "kinds", [("wrong", "fast"), pytest.param(tuple(ANSWERS), marks=pytest.mark.nightly)], ids=["short", "whole"]
)
def test_a_session_improves_a_slow_template_and_survives_what_it_is_given(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    template = emit.source(TASK, SLOW, "sm_90", "0").encode()
    session = Session(Path(), TASK.name, "float32", "sm_90", ["count=134217728"], SLOW, "local")
    begin(tmp_path / "artifacts", session, template)
    session.attempts.append(Attempt(0, "waiting"))
    session.keep(session.attempts[0], template)
    subject = Subject(TASK, "float32", "sm_90", [{"count": 1 << 27}], SLOW)
    steps = [*(answer(ANSWERS[kind][0]) for kind in kinds), answer("int launch_task;")]
    with serving(*steps) as server:
        bounds = Bounds(rounds=len(kinds) + 1, seconds=280.0)
        found = Loop(session, subject, Endpoint(server.url, "local", KEY), Emulated(tmp_path), bounds).run()
    outcomes = [one.outcome for one in found.attempts[1:-1]]
    assert outcomes == [ANSWERS[kind][1] for kind in kinds], [one.why for one in found.attempts]
    told = [str(request["body"]["messages"][1]["content"]) for request in server.requests]
    for kind, after in zip(kinds, told[1:], strict=True):
        assert ANSWERS[kind][2] in after, kind
    slow = found.attempts[0]
    assert slow.outcome == "verified" and found.best is not None
    assert found.best.number == kinds.index("fast") + 1
    assert slow.score_ns > 2 * found.best.score_ns, "an eighth of the threads, and vectors of four"
    assert b"by a model (local)" in session.source(found.best)


def test_the_program_of_a_generated_file_checks_it(tmp_path: Path) -> None:
    """The emitted file keeps the template's rules: it stands alone, and its own program tells right from wrong."""
    from aisp_trace.kernels.llm.reply import part_in

    for kind, code in (("fast", 0), ("wrong", 1)):
        folder = tmp_path / kind
        folder.mkdir()
        text = emit.generated(TASK, SLOW, "sm_90", "0", part_in(ANSWERS[kind][0], "local"))
        (folder / "test.cu").write_text(text, encoding="utf-8")
        command = [
            "g++",
            "-std=c++17",
            "-O1",
            f"-I{ROOT / 'tests' / 'emulation'}",
            "-x",
            "c++",
            "test.cu",
            "-o",
            "program",
        ]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        assert subprocess.run([folder / "program"], capture_output=True).returncode == code
