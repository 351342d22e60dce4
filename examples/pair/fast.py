"""The second program of the pair: one encoding of all texts, counted by NumPy."""

from __future__ import annotations

import numpy as np

from aisp_trace import iteration, measured, stage, state_work

TEXTS = [f"the quick brown fox number {i} jumps over the lazy dog\n" * 20 for i in range(40)]


def count(texts: list[str]) -> list[int]:
    """How often each byte occurs in all texts."""
    with stage("encode", kind="host"):
        data = "".join(texts).encode()
    with stage("count", kind="compute"):
        counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    return [int(n) for n in counts]


def main() -> None:
    """As in the first program."""
    for _ in range(2):
        with iteration():
            count(TEXTS)
    with measured():
        for _ in range(10):
            with iteration():
                counts = count(TEXTS)
    state_work(items=len(TEXTS), unit="texts", output=" ".join(map(str, counts)))


if __name__ == "__main__":
    main()
