"""The frame of every page (``templates/base.html``): a file with its own style and scripts, whose policy allows no others."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ..palette import css
from .markup import Html
from .templates import fill

HERE: Final = Path(__file__).parent


def framed(
    template: str,
    *,
    version: str,
    title: str,
    contents: Sequence[tuple[str, str]],
    style: str,
    scripts: Sequence[str],
    unpacked: Sequence[str] = (),
    images: str = "",
    scrubbed: bool = False,
    to_send_on: str = "report --scrub makes a page to send on",
    **values: Any,
) -> str:
    """The page that `template` makes of `values`.

    `contents` are the anchor and title of each part; `style` follows the style sheet of all pages. Its `scripts` may run, and
    those of the hashes `unpacked`, which they unpack. Images may come from `images` alone.
    The footer says whether what the page was made of was `scrubbed`, and how to make one `to_send_on`.
    """
    light, dark = css()
    return fill(
        template,
        policy=_policy([*map(hash_of, scripts), *unpacked], images),
        version=version,
        title=title,
        scrubbed=scrubbed,
        to_send_on=to_send_on,
        contents=contents,
        colours=(Html(light), Html(dark)),
        style=Html((HERE / "page.css").read_text(encoding="utf-8") + style),
        scripts=[Html(script) for script in scripts],
        **values,
    )


def hash_of(script: str) -> str:
    """What a content security policy names a script by, behind ``sha256-``."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _policy(hashes: Sequence[str], images: str) -> Html:
    """Nothing may be fetched, and only the scripts of these hashes may run."""
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    pictures = f"; img-src {images}" if images else ""
    return Html(
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'{pictures}; base-uri 'none'; form-action 'none'"
    )
