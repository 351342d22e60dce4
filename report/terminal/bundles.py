"""A bundle that was made, or verified, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...analyze.words import size
from ...expectations.claims.diff import LOOSER, OTHER, REMOVED
from ...expectations.judging.judged import Judged
from ...expectations.judging.verdict import counts
from ...traces.bundle import Bundle
from ...traces.signing import NEEDED, fingerprint
from ..proof import Compared, Made, Verified
from .console import say, say_wrapped
from .verdicts import print_verdicts, sentences

LARGE_BYTES: Final = 64 << 20
"""Files from this size on are announced."""


def telling_packing(tell: Callable[[str], None]) -> Callable[[str, int], None]:
    """What says through `tell` that a large file is being packed, given its path and bytes."""

    def packing(path: str, nbytes: int) -> None:
        if nbytes >= LARGE_BYTES:
            tell(f"packing {path}, {size(nbytes)}")

    return packing


def print_made(place: Path, made: Made) -> None:
    """Where the bundle is, what it is known by, and its verdict."""
    say(f"bundle    {place} ({size(made.nbytes)}, {len(made.bundle.index.members)} files)")
    say(f"identity  sha256 {made.bundle.identity}")
    if key := made.bundle.index.signed_by:
        say(f"signer    {fingerprint(key)}")
    say(f"verdict   {_summary(made.judged)}")
    say_wrapped(
        "Write the identity down where it cannot be changed later, such as a commit or a message: it stands for every byte."
    )


def print_verified(file: Path, found: Verified, among: str | None = None) -> None:
    """What was checked, and the verdict that follows from the evidence. `among`: the file of keys that may sign."""
    say(f"bundle    {file}: {len(found.bundle.index.members)} files, every checksum right")
    say(f"identity  sha256 {found.bundle.identity}")
    say_wrapped(f"signer    {signer(found.bundle, among)}")
    say(f"run       {found.bundle.index.run_id} on {found.judged.evidence.hardware_key}")
    traces = "traces, " if any(v.analysis is not None for v in found.judged.evidence.variants.values()) else ""
    say(f"verdict   derived anew from its {traces}timings and expectations: the same as stored")
    say_wrapped(f"bounds    {_bounds(found)}")
    if found.judged.verdicts:
        say()
        print_verdicts(found.judged.verdicts, found.judged.evidence.workload)
        say()
    for line in sentences(found.judged.verdicts):
        say_wrapped(line)
    for note in (*found.judged.notes, *found.notes):
        say_wrapped(f"note: {note}.")
    if found.compared is not None:
        _print_compared(found.compared, found.judged)
        say(f"By the bounds in the bundle: {_summary(found.judged)}.")
        say(f"By those of {found.compared.whose}: {_summary(found.compared.judged)}.")
        return
    say(f"{_summary(found.judged)}.")


def signer(bundle: Bundle, among: str | None) -> str:
    """Who signed, as far as anybody knows."""
    key = bundle.index.signed_by
    if key is None:
        return "nobody: the bundle is unsigned, so anyone may have made it"
    if not bundle.signature_checked:
        return f"{fingerprint(key)} by its own account, which was not checked: {NEEDED}"
    whose = f"which is in {among}" if among else "the signature is right; whose key that is, --signer PUBKEY asks"
    return f"{fingerprint(key)}, {whose}"


def _bounds(found: Verified) -> str:
    """Whose bounds the verdict rests on, and what they say of themselves."""
    claims = [claim for file in found.judged.expectations.files for claim in file.claims]
    claims = [claim for claim in claims if claim.workload == found.judged.evidence.workload]
    sources = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(claim.source.kind for claim in claims).items()))
    many = "1 claim" if len(claims) == 1 else f"{len(claims)} claims"
    own = f"the bundle's own: {many} about this workload ({sources or 'none'}), put there by whoever made it"
    if found.compared is None:
        return f"{own}; --expectations DIR or --commit REV compares them with yours"
    if not found.compared.differences:
        return f"{own}; the same as those of {found.compared.whose}"
    less = "; they ask for less" if found.compared.asks_less else ""
    return f"{own}; other ones than those of {found.compared.whose}{less}"


def _print_compared(compared: Compared, own: Judged) -> None:
    """Each claim that the bundle has otherwise, loosened ones and those left out first; then what the other bounds judge
    otherwise, with the reasons."""
    for one in sorted(compared.differences, key=lambda d: not d.asks_less):
        what = {LOOSER: "loosened", REMOVED: "left out", OTHER: "replaced by another claim"}.get(
            one.direction, one.direction
        )
        values = f"{one.old or 'nothing'} -> {one.new or 'nothing'}"
        say_wrapped(f"{one.claim}, {one.part}: {what} in the bundle ({values})")
    if compared.differences:
        say()
    known = {(v.claim, v.quantity): v.status for v in own.verdicts}
    other = [v for v in compared.judged.verdicts if v.status != known.get((v.claim, v.quantity))]
    if other:
        say_wrapped(f"What {compared.whose} judges otherwise:")
        print_verdicts(other, compared.judged.evidence.workload)
        for line in sentences(other):
            say_wrapped(line)
        say()


def _summary(judged: Judged) -> str:
    found = ", ".join(f"{n} {status}" for status, n in counts(judged.verdicts).items() if n)
    return found or f"no claim is about {judged.evidence.workload}, so nothing was judged"
