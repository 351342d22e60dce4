"""The smallest program that can be recorded: one range of each sort. `doctor` records it to see whether any arrives."""

from __future__ import annotations

from .stages import iteration, measured, stage

STAGE = "probe"


def main() -> None:
    """Open and close one nest of ranges."""
    with measured(), iteration(), stage(STAGE, kind="host", nbytes=1):
        pass


if __name__ == "__main__":
    main()
