"""``make fuzz``: hostile inputs in forks, some through the real command, kills; exits with 1 where a rule was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from . import child, finds
from .campaign import Tally, again, commands, inputs, workplace
from .kills import kills
from .seeds import Seeds


def main() -> int:
    """One campaign."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument(
        "--seed", default=str(time.time_ns() % 10**9), help="the same seed gives the same inputs (default: the clock)"
    )
    parser.add_argument("--inputs", type=int, default=1000, metavar="N", help="inputs in forks (1000)")
    parser.add_argument("--commands", type=int, default=20, metavar="N", help="inputs through the real command (20)")
    parser.add_argument(
        "--kills", type=int, default=10, metavar="N", help="commands killed, starved or run twice at once (10)"
    )
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first input (0)")
    parser.add_argument(
        "--finds", nargs="*", type=Path, metavar="FILE", help="only repeat what was found: these files, else all"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()) / "aisp-fuzz-finds", help="folder for new finds"
    )
    asked = parser.parse_args()
    child.prepare()
    tally = Tally()
    with workplace() as place:
        if asked.finds is not None:
            again(sorted(asked.finds or finds.FOLDER.glob("*.json")), place, tally)
        else:
            print(f"seed {asked.seed}", flush=True)
            (place / "seeds").mkdir()
            seeds = Seeds(place / "seeds")
            inputs(asked.seed, range(asked.first, asked.first + asked.inputs), seeds, place, tally, asked.keep)
            if asked.commands:
                real = Tally()
                commands(f"command {asked.seed}", range(asked.commands), seeds, place, real, asked.keep)
                tally.finds += real.finds
                print(
                    f"through the command: {sum(real.cases.values())} inputs, exit codes",
                    dict(sorted(real.codes.items())),
                )
            if asked.kills:
                tally.finds += kills(asked.seed, asked.kills, seeds, place)
    print(*tally.told(), sep="\n")
    print(f"{len(tally.finds)} finds")
    return 1 if tally.finds else 0


sys.exit(main())
