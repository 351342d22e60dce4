"""What ``make demo`` expects of the pair it records, written before it is recorded, for the machine it runs on.

python -P scripts/demo_claims.py FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from aisp_trace.capture.doctor import diagnose
from aisp_trace.expectations.claims.load import PACKAGE_DIR, file_name, load_file
from aisp_trace.expectations.claims.skeleton import NO_LIMIT_MS
from aisp_trace.expectations.claims.write import file_text
from aisp_trace.expectations.model import ANY, Bound, MechanismClaim, Source, TimeClaim

PAIR: Final = ("baseline", "batched")

FASTER: Final = TimeClaim(
    id="end_to_end_bandwidth.batched_faster.demo",
    workload="end_to_end_bandwidth",
    variant="batched",
    baseline="baseline",
    size="tiny",
    ratio=Bound(2.0, None),
    max_ms=dict.fromkeys(PAIR, NO_LIMIT_MS),
    why="32 requests are copied and computed by one call each, which costs what it costs for one",
    source=Source(
        "model",
        None,
        "a call costs some microseconds on any machine, more than copying or computing a request of a few KiB; one call in "
        "place of 32 saves well over half of the time",
    ),
)


def main(folder: Path) -> None:
    """Write the claim on time for this machine, and those of the package that hold for the two variants on every machine."""
    folder.mkdir(parents=True, exist_ok=True)
    found = load_file(PACKAGE_DIR / file_name(ANY)).claims
    about = [one for one in found if one.workload == FASTER.workload and one.variant in PAIR]
    everywhere = [
        replace(one, against="baseline") if isinstance(one, MechanismClaim) and one.against == "pinned" else one
        for one in about
    ]
    for key, claims in ((ANY, everywhere), (diagnose().hardware_key, [FASTER])):
        (folder / file_name(key)).write_text(file_text(None, key, claims), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
