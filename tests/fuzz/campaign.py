"""Many cases: each number of a seed is one, the same wherever it is made. What breaks a rule becomes a file (`finds.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from . import child, exports, finds, folders, lines, profiles, rules
from .case import INPUT, Answer, Case, Outcome, words_of
from .seeds import Seeds

KINDS: Final[tuple[tuple[int, Callable[[Random, Path, Seeds], Case]], ...]] = (
    (26, exports.rows_case),
    (14, exports.bytes_case),
    (1, exports.report_case),
    (6, exports.secrets_case),
    (14, profiles.structure_case),
    (10, profiles.bytes_case),
    (6, lines.words_case),
    (4, lines.names_case),
    (7, folders.run_case),
    (12, folders.expectations_case),
    (6, folders.bundle_case),
    (4, folders.partial_case),
    (3, folders.calibration_case),
)
"""Of a hundred cases, how many are of which kind."""

SHARED: Final = Path("/dev/shm")


@dataclass
class Tally:
    """What a campaign has seen."""

    cases: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    finds: list[tuple[str, list[str]]] = field(default_factory=list)
    seconds: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[int, str] = (0, "")

    def add(self, name: str, found: Outcome) -> None:
        """One case's outcome."""
        self.cases[found.kind] += 1
        self.codes.update(str(code) for code in found.codes)
        self.checked.update(found.checked)
        self.seconds[found.kind] += found.seconds  # type: ignore[assignment]
        self.slowest = max(self.slowest, (found.seconds, name))
        self.largest = max(self.largest, (found.peak_mb, name))
        if found.finds:
            self.finds.append((name, found.finds))

    def told(self) -> Iterator[str]:
        """The figures, a line each."""
        kinds = (f"{n} {kind} ({1000 * self.seconds[kind] / n:.0f} ms)" for kind, n in sorted(self.cases.items()))
        yield f"{sum(self.cases.values())} inputs: " + ", ".join(kinds)
        yield "exit codes: " + ", ".join(f"{code}: {n}" for code, n in sorted(self.codes.items()))
        yield "held against: " + ", ".join(f"{rule} {n}" for rule, n in sorted(self.checked.items()))
        yield (
            f"{self.seconds.total():.0f} s of processor time, at most {self.slowest[0]:.1f} s ({self.slowest[1]}) and "
            f"{self.largest[0]} MB ({self.largest[1]}) for one input"
        )


def case_of(seed: str, number: int, seeds: Seeds, box: Path) -> Case:
    """Case `number` of a seed, in the empty folder `box`."""
    rng = Random(f"{seed}:{number}")
    (make,) = rng.choices([make for _, make in KINDS], [weight for weight, _ in KINDS])
    return make(rng, box, seeds)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder in memory, where there is such a place."""
    with tempfile.TemporaryDirectory(prefix="aisp-fuzz-", dir=SHARED if os.access(SHARED, os.W_OK) else None) as folder:
        yield Path(folder)


def inputs(seed: str, numbers: range, seeds: Seeds, place: Path, tally: Tally, keep: Path) -> None:
    """Try `numbers` of `seed`, each in a fork. Finds are written to `keep`."""
    box = place / "box"
    began = time.monotonic()
    for done, number in enumerate(numbers, 1):
        found = child.run(partial(case_of, seed, number, seeds), child.emptied(box))
        tally.add(f"{seed}:{number}", found)
        if found.finds:
            case = case_of(seed, number, seeds, child.emptied(box))
            file = finds.keep(case, box, found.finds, keep / f"{case.kind.replace(' ', '_')}-{seed}-{number}.json")
            say(f"{seed}:{number} {found.kind}: {found.finds[0][:400]}", *words_of(case.looks), f"kept in {file}")
        if done % 500 == 0:
            rate = done / (time.monotonic() - began)
            say(f"{done} inputs, {len(tally.finds)} finds, {rate:.1f} a second")


def commands(seed: str, numbers: range, seeds: Seeds, place: Path, tally: Tally, keep: Path) -> None:
    """Try `numbers` of `seed` through the real command: a process for each look. Caches are damaged in the fork alone."""
    box = place / "box"
    for number in numbers:
        case = case_of(seed, number, seeds, child.emptied(box))
        child_env = environment(box)
        broken: list[str] = []
        answers = []
        for look in case.looks[:1]:
            try:
                done = subprocess.run(
                    [sys.executable, "-P", "-m", "aisp_trace.cli", *look.words],
                    cwd=box / INPUT, env=child_env, capture_output=True, timeout=child.MOST_SECONDS, stdin=subprocess.DEVNULL,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                broken.append(f"hangs: {child.MOST_SECONDS} s")
                break
            printed, said = (part.decode("utf-8", "backslashreplace") for part in (done.stdout, done.stderr))
            answers.append(Answer(look, done.returncode, printed, said))
        for answer in answers:
            broken += rules.of_answer(answer)
            if "--json" in answer.look.words and answer.code in rules.CODES:
                broken += rules.of_document(answer)
        tally.add(
            f"command {seed}:{number}", Outcome(case.kind, [a.code for a in answers], broken, {"answer": len(answers)})
        )
        if broken:
            case = case_of(seed, number, seeds, child.emptied(box))
            file = finds.keep(case, box, broken, keep / f"command-{case.kind.replace(' ', '_')}-{seed}-{number}.json")
            say(f"command {seed}:{number}: {broken[0][:400]}", *words_of(case.looks), f"kept in {file}")


def again(files: list[Path], place: Path, tally: Tally) -> None:
    """Try what was found once more."""
    for file in files:
        found = child.run(partial(finds.restored, file), child.emptied(place / "box"))
        tally.add(file.name, found)
        for broken in found.finds:
            say(f"{file.name}: {broken[:600]}")


def environment(box: Path) -> dict[str, str]:
    """The environment of a command in `box`: homes of its own, nothing that changes what the program says."""
    kept = box / "kept"
    homes = {
        name: str(kept / name) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
    }
    own = {"HOME": str(box / "home"), "TMPDIR": str(box / "tmp"), "AISP_NSYS": str(box / "home" / "nsys")}
    unset = ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS", "AISP_TRACE_NO_NUMBA", "FORCE_COLOR", "COLUMNS", "CI")
    return {name: value for name, value in os.environ.items() if name not in unset} | homes | own


def say(*said: str) -> None:
    """Print what may be hostile, escaped."""
    for line in said:
        print(line.encode("ascii", "backslashreplace").decode(), flush=True)
