"""The first program of a pair: counts the bytes of each text on its own, and looks every byte up in Python.

A pair needs nothing of aisp-trace. These two use three things to be judged by more than their whole run time: `iteration`
delimits what is timed, `stage` names its parts in the recording, `state_work` says what was done, for the comparison.
"""

from __future__ import annotations

from aisp_trace import iteration, measured, stage, state_work

TEXTS = [f"the quick brown fox number {i} jumps over the lazy dog\n" * 20 for i in range(40)]


def count(texts: list[str]) -> list[int]:
    """How often each byte occurs in all texts."""
    counts = [0] * 256
    for text in texts:
        with stage("encode", kind="host"):
            data = text.encode()
        with stage("count", kind="compute"):
            for byte in data:
                counts[byte] += 1
    return counts


def main() -> None:
    """Two iterations to warm up, then ten that are timed."""
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
