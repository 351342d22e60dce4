"""What must hold of every answer, whatever was asked of whatever file. Each rule gives sentences: what was broken."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from aisp_trace.tests.builders.timeline_payload import payloads
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.open import open_trace

from . import truth
from .case import INPUT, OUTPUT, Answer, Case

CODES: Final = (0, 1, 2, 3)
"""What a command may leave with that nobody interrupted (docs/commands.md)."""

MOST_LINES: Final = 25
"""Of one refusal: 20 faults of a document, how many more, and room."""

LONGEST_LINE: Final = 2_000

_HIDDEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What moves a cursor, ends a line or turns the direction of text; names of files and ranges may hold it."""


def of_answer(answer: Answer) -> Iterator[str]:
    """Exit code, traceback, one sentence, nothing hidden in what is printed."""
    code, said = answer.code, answer.said
    if code not in CODES:
        yield f"exit code {code}: {said.strip()[-600:]}"
        return
    if "Traceback (most recent call last)" in said or "panicked at" in said:
        yield f"a traceback with exit code {code}: {said.strip()[-600:]}"
    lines = said.splitlines()
    if code == 2:
        told = [line for line in lines if line.strip()]
        if answer.look.words[:2] == ("expectations", "validate") and answer.printed.strip():
            pass  # what is wrong with expectations is what it was asked for
        elif not told:
            yield "exit code 2 without a sentence"
        elif not any(line.startswith("aisp-trace: ") for line in told):
            yield f"exit code 2 without a sentence of the program's own: {told[0][:300]}"
        if len(told) > MOST_LINES:
            yield f"a refusal of {len(told)} lines"
    if any(len(line) > LONGEST_LINE for line in lines):
        yield f"a line of {max(map(len, lines))} characters on standard error"
    for stream, text in (("output", answer.printed), ("error", said)):
        if found := _HIDDEN.search(text):
            yield f"{found[0]!r} on standard {stream}: {text[max(found.start() - 60, 0) : found.end() + 60]!r}"
        if re.search(r"^(::|##\[|##vso\[)", text, re.MULTILINE):
            yield f"a line on standard {stream} that a CI system takes for its own"


def of_document(answer: Answer) -> Iterator[str]:
    """What ``--json`` prints: one strict document, whose sums are right."""
    if answer.code == 2 and not answer.printed.strip():
        return
    try:
        found = json.loads(answer.printed, parse_constant=_no_number)
    except ValueError as exc:
        yield f"--json printed no JSON ({exc}): {answer.printed[:200]!r}"
        return
    if not isinstance(found, dict) or not str(found.get("schema", "")).startswith("aisp-trace/"):
        yield "--json printed a document without a schema"
    elif found["schema"].startswith("aisp-trace/analysis/"):
        for trace in found["traces"]:
            yield from _sums(trace)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _sums(trace: dict[str, Any]) -> Iterator[str]:
    """Every nanosecond of a window exactly once; what is busy, idle, hidden or shared lies within it."""
    devices = {device["device"]: device for device in trace["devices"]}
    for ledger in trace["ledger"]:
        length = ledger["window"]["end_ns"] - ledger["window"]["start_ns"]
        cells = [cell["ns"] for cell in ledger["cells"]]
        if sum(cells) != length or min(cells, default=1) <= 0:
            yield f"the ledger of device {ledger['device']} has {sum(cells)} ns (least {min(cells, default=0)}) of {length}"
        device = devices[ledger["device"]]
        if (
            device["busy_ns"] + device["idle_ns"] != device["ops_span_ns"]
            or device["busy_ns"] < 0
            or device["idle_ns"] < 0
        ):
            yield f"device {device['device']}: busy {device['busy_ns']}, idle {device['idle_ns']} of {device['ops_span_ns']} ns"
        for kind, of in device["by_kind"].items():
            if of["ops"] < 0 or not 0 <= of.get("union_ns", 0) <= max(of["sum_ns"], 0):
                yield f"device {ledger['device']}: {kind} {of}"
        for pair, of in device["overlap"].items():
            if of is not None and not 0 <= of["both_ns"] <= min(of["a_ns"], of["b_ns"]):
                yield f"device {ledger['device']}: overlap {pair} {of}"
        gaps = sum(gap["ns"] for gap in trace["gaps"] if gap["device"] == ledger["device"])
        if gaps > length:
            yield f"device {ledger['device']}: gaps of {gaps} ns in a window of {length}"
    for one in trace["findings"]:
        window = devices[one["device"]]["ops_span_ns"] if one["device"] in devices else 0
        if not 0 <= (one["share"] or 0) <= 1 or one["saving_at_most_ns"] > max(window, *_windows(trace)):
            yield f"finding {one['rule']}: a share of {one['share']}, {one['saving_at_most_ns']} ns"


def _windows(trace: dict[str, Any]) -> list[int]:
    return [0, *(of["window"]["end_ns"] - of["window"]["start_ns"] for of in trace["ledger"])]


def of_case(case: Case, box: Path, answers: Sequence[Answer], checked: dict[str, int]) -> Iterator[str]:
    """All rules, and in `checked` how often each had something to say."""

    def count(rule: str) -> None:
        checked[rule] = checked.get(rule, 0) + 1

    for answer in answers:
        words = answer.look.words
        count("answer")
        yield from of_answer(answer)
        if answer.code not in CODES:
            continue
        if "--json" in words:
            count("document")
            yield from of_document(answer)
        if answer.look.like is not None:
            first = answers[answer.look.like]
            if answer.look.words[1] != first.look.words[1]:
                copied = any(a.code == 0 and "--scrub" in a.look.words for a in answers)
                if first.code == 0 and copied:
                    count("scrubbed copy")
                    yield from _same_figures(first, answer)
                continue
            count(answer.look.reader or ("damaged cache" if answer.look.damage_kept is not None else "second look"))
            if (first.code, first.printed) != (answer.code, answer.printed):
                where = next(
                    (i for i, (a, b) in enumerate(zip(first.printed, answer.printed, strict=False)) if a != b), 0
                )
                yield (
                    f"answers differ ({answer.look.reader or 'a second look'}): {first.code} and {answer.code}, "
                    f"{first.printed[max(where - 80, 0) : where + 80]!r} and "
                    f"{answer.printed[max(where - 80, 0) : where + 80]!r}; {answer.said[-300:]}"
                )
        if words[0] == "report" and answer.code in (0, 1, 3):
            for page in (box / OUTPUT).glob("*.html"):
                count("page")
                yield from of_page(page.read_text(encoding="utf-8"))
    whole = answers[0] if answers else None
    if case.truth is not None and whole is not None and whole.code == 0 and "all" in whole.look.words:
        count("truth")
        file = box / INPUT / case.truth
        try:
            odd = open_trace(file).meta.anomalies
        except InputError:  # a table is damaged that this analysis had no use for
            odd = None
        if odd is not None:
            yield from truth.against(file, json.loads(whole.printed), odd)
    if case.secrets and any(answer.code == 0 for answer in answers):
        count("secrets")
        yield from of_secrets(box / OUTPUT, case.secrets)


def _same_figures(first: Answer, copy: Answer) -> Iterator[str]:
    """A scrubbed copy has the figures of its original; names may differ."""
    if copy.code != 0:
        yield f"the scrubbed copy cannot be analysed: {copy.code} {copy.said[-300:]}"
        return
    (was,), (now,) = (json.loads(answer.printed)["traces"] for answer in (first, copy))
    for key in ("device", "ops_span_ns", "busy_ns", "idle_ns", "by_kind", "overlap", "exposed_ns"):
        if (a := [d[key] for d in was["devices"]]) != (b := [d[key] for d in now["devices"]]):
            yield f"{key} of the devices is {str(a)[:300]} and in the scrubbed copy {str(b)[:300]}"
    causes = [
        sorted(
            (cell["category"], cell["cause"] or "", cell["ns"]) for ledger in of["ledger"] for cell in ledger["cells"]
        )
        for of in (was, now)
    ]
    if causes[0] != causes[1]:
        a, b = ([cell for cell in causes[i] if cell not in causes[1 - i]] for i in (0, 1))
        yield f"the ledger is {str(a)[:300]} and in the scrubbed copy {str(b)[:300]}"


def of_page(page: str) -> Iterator[str]:
    """Nothing of a trace's text is markup, nothing is fetched, and the timelines can be read back."""
    for markup in ("<script>alert", "<img src=x", "</script><!--"):
        if markup in page:
            yield f"the page holds {markup} as markup"
    if found := re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page):
        yield f"the page asks the network: {page[found.start() : found.end() + 40]}"
    for side in payloads(page):
        for device in side.header["devices"]:
            for lane in device["lanes"] if "lanes" in device else device.get("streams", ()):
                if any(op.end < op.start for op in side.ops(lane)):
                    yield "an operation of the page's timeline ends before it starts"


def of_secrets(folder: Path, secrets: Sequence[str]) -> Iterator[str]:
    """No file of `folder` holds a secret, in UTF-8, UTF-16 or as JSON writes it."""
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        content = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).lower()
        for secret in secrets:
            for form in {secret.encode(), secret.encode("utf-16-le"), json.dumps(secret)[1:-1].encode()}:
                if (at := content.find(form.lower())) >= 0:
                    yield f"{secret} in {file.name}: {content[max(at - 60, 0) : at + 60]!r}"
                    break
