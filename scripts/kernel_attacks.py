"""Try every attack of tests/kernel_attacks on this machine's GPU: one line each, what it was refused for, or NOT REFUSED.

python -P scripts/kernel_attacks.py [NAME ...] [--device cpu] [--workers 6] [--json FILE]

Attacks run several at a time, since no time of theirs is believed; then the controls that must pass, one after the other, at the
task's own large shape. Leaves 1 if an attack was not refused for one of its reasons, or a control was not told right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from aisp_trace.kernels.verify.evidence import Asked
from aisp_trace.kernels.verify.parent import verify
from aisp_trace.kernels.verify.result import Verification
from aisp_trace.tests.kernel_attacks.catalogue import ATTACKS, Attack
from aisp_trace.traces.errors import AispTraceError

TASK = "rmsnorm"
SHAPE = "rows=4096,columns=4096"
"""For attacks: large enough for a kernel of some microseconds."""

HANG_S = 20.0
"""For the attack that never ends; a call of the others may take the usual time."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one attack."""

    attack: Attack
    found: Verification | None
    error: str
    seconds: float

    @property
    def right(self) -> bool:
        """Whether it was refused for one of its reasons, or, a control, verified."""
        if self.found is None:
            return False
        codes = {one.code for one in self.found.reasons}
        if not self.attack.codes:
            return self.found.status == ("cannot tell" if self.found.device == "cpu" else "verified")
        return bool(codes & set(self.attack.codes)) or self.untried

    @property
    def untried(self) -> bool:
        """Whether only compute-sanitizer would have found it, which does not run here."""
        looked = self.found is not None and any(
            one.what.startswith("compute-sanitizer ") and one.done for one in self.found.checks
        )
        return self.attack.sanitizer and not looked

    @property
    def line(self) -> str:
        """One line for people."""
        if self.found is None:
            return f"{self.attack.name:<26} ERROR        {self.error}"
        codes = ", ".join(dict.fromkeys(one.code for one in self.found.reasons))
        word = "refused" if self.attack.codes else "passes"
        if self.untried:
            word = "NO SANITIZER"
        elif not self.right:
            word = "NOT REFUSED" if self.attack.codes and not codes else "UNEXPECTED"
        told = f"{self.found.headline} [{codes}]" if codes else self.found.headline
        times = "".join(
            f"; {one.shape}: trace {one.time_ns / 1e3:.1f} us, events {(one.event_ns or 0) / 1e3:.1f} us, {one.kernels:g} kernels"
            for one in self.found.timings
            if one.time_ns is not None
        )
        return f"{self.attack.name:<26} {word:<12} {told}{times} ({self.seconds:.0f} s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them."""
    parser = argparse.ArgumentParser(description="Every attack on `kernels verify`, tried.", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all verdicts")
    asked = parser.parse_args(arguments)
    chosen = [one for one in ATTACKS if (not asked.names or one.name in asked.names)]
    if asked.device == "cpu":
        chosen = [one for one in chosen if not one.cuda]
    began = time.monotonic()
    tried = []
    with tempfile.TemporaryDirectory() as folder:
        for one in try_all(chosen, asked, Path(folder)):
            print(one.line, flush=True)
            for reason in () if one.found is None or one.right else one.found.reasons[:6]:
                print(f"    {reason.code}: {reason.text} ({reason.calls})")
            for note in () if one.found is None or one.right else one.found.notes:
                print(f"    note: {note}")
            tried.append(one)
    wrong = [one.attack.name for one in tried if not one.right]
    told = f"{len(tried) - len(wrong)} of {len(tried)} as they should be, in {time.monotonic() - began:.0f} s"
    print(told + (f"; not: {', '.join(wrong)}" if wrong else ""))
    if asked.json is not None:
        documents = {one.attack.name: one.found.document() for one in tried if one.found is not None}
        asked.json.write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    return 1 if wrong else 0


def try_all(chosen: Sequence[Attack], asked: argparse.Namespace, folder: Path) -> Iterator[Tried]:
    """Attacks side by side, in the order in which they end; then what must pass."""
    passing = [one for one in chosen if not one.codes]
    with ThreadPoolExecutor(asked.workers) as pool:
        waiting = [pool.submit(attempt, one, asked, folder) for one in chosen if one.codes]
        for done in as_completed(waiting):
            yield done.result()
    for one in passing:
        yield attempt(one, asked, folder)


def attempt(attack: Attack, asked: argparse.Namespace, folder: Path) -> Tried:
    """The verdict on a copy of one attack's file, which may overwrite itself."""
    file = folder / attack.file.name
    shutil.copy(attack.file, file)
    control = not attack.codes
    request = Asked(
        file=file,
        task=TASK,
        dtype=asked.dtype,
        shapes=() if control or asked.device == "cpu" else (SHAPE,),
        device=asked.device,
        calls=20 if control else 4,
        allow_library="library" not in attack.codes,
        sanitizer=attack.sanitizer,
        call_s=HANG_S if attack.name == "hangs" else 60.0,
    )
    began = time.monotonic()
    found, error = None, ""
    try:
        found = verify(request)
    except (AispTraceError, RuntimeError) as exc:
        error = f"{type(exc).__name__}: {exc}"
    return Tried(attack, found, error, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
