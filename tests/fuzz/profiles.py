"""Cases from torch.profiler's JSON: structure, values, bytes, encodings, nesting, compression, the side file."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path
from random import Random

from . import damage
from .case import Case, made
from .lines import looks_at_trace
from .seeds import Seeds, profile


def structure_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Values, keys and events of a good trace; some of it written as other programs would."""
    folder = made(box)
    whole = profile(rng)
    if rng.random() < 0.6:
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(len(whole["traceEvents"]))
            whole["traceEvents"][at] = damage.document(rng, whole["traceEvents"][at], 1)
    elif rng.random() < 0.6:
        whole = damage.document(rng, whole)
    else:
        whole["traceEvents"] = rng.choices(whole["traceEvents"], k=rng.randrange(1, 60))
    name = rng.choice(("trace.json", "trace.json", "x.pt.trace.json"))
    data = damage.written(
        rng, whole if rng.random() < 0.92 or not isinstance(whole, dict) else whole.get("traceEvents")
    )
    if rng.random() < 0.15:
        name, data = f"{name}.gz", gzip.compress(data, 1, mtime=0)
    (folder / name).write_bytes(data)
    if rng.random() < 0.1:
        sides = {
            "schema": "aisp-trace/stages/1",
            "ranges": [{"name": "ProfilerStep#0", "kind": "compute", "nbytes": 4}],
        }
        (folder / "stages.json").write_bytes(damage.written(rng, damage.document(rng, sides)))
    case = Case("torch structure", truth=name)
    looks_at_trace(rng, case, name)
    return case


def bytes_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Bytes of the file, compressed or not; brackets without end; zeros that unfold."""
    folder = made(box)
    data = rng.choice(seeds.profiles).read_bytes() if rng.random() < 0.4 else json.dumps(profile(rng)).encode()
    if data[:2] == b"\x1f\x8b":
        with suppress(EOFError):  # one of them is cut short already
            data = gzip.decompress(data) if rng.random() < 0.5 else data
    how, name = rng.randrange(12), "trace.json"
    if how < 6:
        data = damage.raw(rng, data)
    elif how == 6:
        data = data[: rng.randrange(1, len(data))]
    elif how == 7:
        data, ending = damage.packed(rng, data)
        name = f"trace.json.{ending}"
    elif how == 8:
        depth = rng.choice((50, 101, 999, 5000, 100_000))
        nested = b"[" * depth + b"]" * (depth if rng.random() < 0.5 else 0)
        at = data.find(b"args") + 6
        data = data[:at] + nested + b"," + data[at:] if rng.random() < 0.5 else b'{"traceEvents": ' + nested
    elif how == 9:
        data = data.replace(
            rng.choice((b'"', b"}", b",", b"X", b":")), rng.choice((b"", b"\\", b"\xff", b"{")), rng.randrange(1, 5)
        )
    elif how == 10:
        data = data.replace(b'"dur": ', b'"dur": ' + rng.choice((b"9" * 400, b"1e400", b"-", b"0x", b"00")), 1)
    else:
        part = rng.choice((b" ", b"[", b"\0", b'{"ph":"X"},', b'"'))
        name, data = (
            "trace.json.gz",
            gzip.compress(b'{"traceEvents": [' + part * (rng.choice((10_000, 1_000_000)) // len(part)), 6),
        )
    (folder / name).write_bytes(data)
    case = Case("torch bytes")
    looks_at_trace(rng, case, name)
    return case
