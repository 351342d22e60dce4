"""The palette: any two colours are far apart for eyes without the green or the red cones, on light ground and on dark.

CIEDE2000 is checked against pairs that its authors published for that; the simulations are Machado's matrices at full severity.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from aisp_trace.analyze.comparison.mechanisms import FAMILIES
from aisp_trace.analyze.result import CAUSES as IDLE_CAUSES
from aisp_trace.report.palette import (
    CAUSES,
    KINDS,
    LEAST_APART,
    MEANINGS,
    colour,
    css,
    css_fill,
    custom_property,
    is_idle,
    on_dark,
    rank,
)
from aisp_trace.traces.model import KINDS as MODEL_KINDS

Vector = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

# Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency (2009), severity 1.0.
EYES = {
    "usual": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def lab(code: str, eyes: str = "usual") -> Vector:
    """``#rrggbb`` as CIELAB (D65), as these eyes see it."""
    rgb = np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    scaled = TO_XYZ @ np.clip(EYES[eyes] @ linear, 0, 1) / WHITE
    f = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(one: Vector, other: Vector) -> float:
    """Sharma, Wu, Dalal: The CIEDE2000 Color-Difference Formula (2005), equations 2 to 22."""
    mean = (np.hypot(*one[1:]) + np.hypot(*other[1:])) / 2
    g = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7)))
    (l1, a1, b1), (l2, a2, b2) = (v * [1, 1 + g, 1] for v in (one, other))
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    hm = h1 + h2 if c1 * c2 == 0 else (h1 + h2) / 2
    if c1 * c2 and abs(h1 - h2) > 180:
        hm += 180 if h1 + h2 < 360 else -180
    waves = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    t = 1 + sum(size * np.cos(np.radians(n * hm + phase)) for size, n, phase in waves)
    sl = 1 + 0.015 * (lm - 50) ** 2 / np.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    rt = -2 * np.sqrt(cm**7 / (cm**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((hm - 275) / 25) ** 2))))
    dl, dc, dh = (l2 - l1) / sl, (c2 - c1) / sc, dh / sh
    return float(np.sqrt(dl**2 + dc**2 + dh**2 + rt * dc * dh))


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_formula_gives_what_its_authors_published(
    one: tuple[float, ...], other: tuple[float, ...], apart: float
) -> None:
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(apart, abs=5e-5)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("ground", [0, 1], ids=["light", "dark"])
def test_any_two_colours_are_far_apart(ground: int, eyes: str) -> None:
    every = {**KINDS, **{f"idle: {name}": found for name, found in CAUSES.items()}}
    seen = {name: lab(found[ground], eyes) for name, found in every.items()}
    close = {
        (one, other): round(apart, 2)
        for one, other in combinations(seen, 2)
        if (apart := ciede2000(seen[one], seen[other])) < LEAST_APART
    }
    assert LEAST_APART >= 12 and close == {}


def test_every_kind_and_cause_has_its_colour_its_meaning_and_its_place() -> None:
    assert set(CAUSES) == set(FAMILIES)
    for kind in MODEL_KINDS:
        assert colour(kind) is KINDS["d2d" if kind == "h2h" else kind] and not is_idle(kind)
        assert css_fill(kind) == f"var(--{custom_property(kind)})"
    for family, causes in FAMILIES.items():
        for cause in causes:
            assert colour(cause) is CAUSES[family] and custom_property(cause) == f"cause-{family}"
            assert is_idle(cause) and "gradient" in css_fill(cause)  # a second channel: waiting is hatched
    every = [*MODEL_KINDS, "idle", *IDLE_CAUSES]
    assert all(MEANINGS[name] for name in every)
    assert len({rank(name) for name in every}) == len(every) and rank("something else") > max(map(rank, every))


def test_the_style_sheet_has_all_of_them_on_both_grounds() -> None:
    for ground, text in enumerate(css()):
        given = dict(one.split(":") for one in text.rstrip(";").split(";"))
        assert given == {
            **{f"--kind-{name}": found[ground] for name, found in KINDS.items()},
            "--kind-h2h": KINDS["d2d"][ground],
            **{f"--cause-{name}": found[ground] for name, found in CAUSES.items()},
        }
    assert len(on_dark()) == len(KINDS) + len(CAUSES) + 2  # no two the same, ink and axes beside them
