"""Whether a run is one run, before it is judged: every fact of its manifest is equal, explained or an objection.

    examine(evidence) -> findings        the run's own, asked once
    admit(verdicts, claim, evidence, findings) -> verdicts

`docs/verdicts.md` has the table: a row for each of `ROWS`, and tests/test_admissible.py a broken run for each row. A finding is

    named       differs by design (a newer driver, a tree that is changed in every process): said, and blocks nothing
    objection   what holds is inconclusive: the processes are not of one program, machine or occasion, or something is missing
    invalid     what holds is invalid: the work is wrong or missing, or the evidence contradicts itself as no untouched run does

What a capture that was gone on with later may explain (another machine, another start of it) is an objection in such a run.

A miss stays a miss, whatever else is wrong: whoever wants to be rid of one captures again. What a manifest does not say is no
objection, since older ones know less. Pure: asks the manifest and the analyses, and opens nothing.
"""

from __future__ import annotations

from .table import CLAIM_ROWS, ROWS, RUN_ROWS, admit, examine

__all__ = ["CLAIM_ROWS", "ROWS", "RUN_ROWS", "admit", "examine"]
