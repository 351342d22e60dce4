"""What would be replaced in a scrubbed copy, as a table."""

from __future__ import annotations

from ...traces.content import one_line
from ...traces.scrub.personal import SECRET, Policy
from .console import say, say_wrapped

_WIDEST = 90
"""Characters of a text that are shown."""


def print_personal(policy: Policy) -> None:
    """Each text that `policy` replaced, what stands for it, and how often. Of a secret at most four letters are shown."""
    rows = policy.replaced
    for one in rows:
        original = one_line(one.original if one.kind == SECRET else policy.without_secrets(one.original))
        if one.kind == SECRET:
            shown = f"{original[: min(4, len(original) // 4)]}... ({len(one.original)} characters)"
        else:
            shown = original if len(original) <= _WIDEST else f"{original[: _WIDEST - 3]}..."
        say(f"{one.kind:<8}{one.times:>6} x  {shown}  ->  {one.replacement}")
    say_wrapped(
        f"{len(rows)} personal texts would be replaced; environments and program output "
        "are left out entirely. Nothing was written."
    )
