"""Compare what the commands say of known recordings with the answers that are kept, or keep the answers of today.

python -P scripts/goldens.py --check [NAME...]                 samples of the repository (all, or those named)
python -P scripts/goldens.py --check --traces DIR [NAME...]    recordings below DIR of which answers are kept
python -P scripts/goldens.py --write [--traces DIR] [NAME...]  keep today's answers; says what that changes

Leaves 0 where everything is identical (or was written), 1 where an answer differs, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from aisp_trace.tests.goldens import store
from aisp_trace.tests.goldens.answers import answer
from aisp_trace.tests.goldens.calls import Words, first_call, further_calls, sample_calls
from aisp_trace.tests.goldens.differences import differences
from aisp_trace.tests.goldens.store import Answers


def main(arguments: list[str] | None = None) -> int:
    """Check or write, samples or recordings elsewhere."""
    parser = argparse.ArgumentParser(description="Whole answers as a yardstick.", allow_abbrev=False)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--check", action="store_true", help="compare with the answers that are kept")
    todo.add_argument("--write", action="store_true", help="keep the answers of today, and say what that changes")
    parser.add_argument("--traces", type=Path, metavar="DIR", help="recordings that are not in the repository")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only recordings whose name begins so")
    asked = parser.parse_args(arguments)
    if asked.traces is not None and not asked.traces.is_dir():
        parser.error(f"--traces {asked.traces} is no folder")
    found = store.samples() if asked.traces is None else list(store.recordings(asked.traces.resolve()))
    chosen = [p for p in found if not asked.names or p.name.startswith(tuple(asked.names))]
    if not chosen:
        parser.error(
            f"nothing in {asked.traces or store.SAMPLES} is called {' or '.join(asked.names) or 'a recording'}"
        )
    differ = _samples(chosen, asked.write) if asked.traces is None else _elsewhere(chosen, asked.write)
    if differ and asked.check:
        again = shlex.join(["python", "-P", "scripts/goldens.py", "--write", *(arguments or sys.argv[1:])[1:]])
        print(f"{differ} answers differ. Read what does; if all of it is meant: .venv/bin/{again}")
    return 1 if differ and asked.check else 0


def _samples(chosen: Iterable[Path], write: bool) -> int:
    differ = 0
    for sample in chosen:
        file, calls = store.kept_file(sample), sample_calls(sample)
        kept = store.answers_in(store.read(file))
        answers = {words: answer(words, sample.parent) for words in calls}
        differ += _compare(sample.name, kept, answers)
        if write:
            store.write(file, store.as_json(answers))
    return differ


def _elsewhere(chosen: Iterable[Path], write: bool) -> int:
    differ, everything = 0, store.read(store.ELSEWHERE)
    inside = {store.content(sample) for sample in store.samples()}
    for path in chosen:
        content = store.content(path)
        key = f"{path.name} {content}"
        if content in inside:
            print(f"{path.name}: a sample of the repository, compared there")
        elif key in everything or write:
            kept = store.answers_in(everything.get(key, {}))
            answers = _all_answers(path) if write else {words: answer(words, path.parent) for words in kept}
            differ += _compare(path.name, kept, answers)
            everything[key] = store.as_json(answers)
        else:
            print(f"{path.name}: nothing is kept of this content ({content}), nothing was compared")
    if write:
        store.write(store.ELSEWHERE, everything)
    return differ


def _all_answers(path: Path) -> Answers:
    first = first_call(path)
    answers = {first: answer(first, path.parent)}
    document = answers[first]["document"]
    for words in further_calls(path, document) if document is not None else ():
        answers[words] = answer(words, path.parent)
    return answers


def _compare(name: str, kept: Answers, answers: Answers) -> int:
    """Print what differs; how many answers do."""
    differ = 0
    for words in [*kept, *(w for w in answers if w not in kept)]:
        lines = [_gone_or_new(words, kept)] if words not in kept or words not in answers else []
        lines = lines or differences(kept[words], answers[words])
        if lines:
            differ += 1
            print(f"{name}: aisp-trace {shlex.join(words)}", *lines, sep="\n    ")
    if not differ:
        print(f"{name}: identical ({len(answers)} calls)")
    return differ


def _gone_or_new(words: Words, kept: Answers) -> str:
    return "an answer is kept, but the call is made no more" if words in kept else "no answer is kept of this call"


if __name__ == "__main__":
    sys.exit(main())
