"""Draw the figures of docs/definitions again, from what the analysis says of small traces, or check that they are up to date.

python -P scripts/definitions.py --check|--write

`--check` leaves 1 where a figure is not what the analysis says today, as tests/test_definitions.py does.
"""

from __future__ import annotations

import argparse
import sys

from aisp_trace.tests.definitions.figures import FIGURES, FOLDER


def main() -> int:
    """Compare the figures with the analysis, or draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="leave 1 if a figure is out of date")
    what.add_argument("--write", action="store_true", help="draw the figures")
    write, old = parser.parse_args().write, []
    for name, draw in FIGURES.items():
        file, drawn = FOLDER / f"{name}.svg", draw().svg()
        if file.is_file() and file.read_text(encoding="utf-8") == drawn:
            continue
        if write:
            file.write_text(drawn, encoding="utf-8")
            print(f"drew {file.name}")
        else:
            old.append(file.name)
    if old:
        print(f"out of date: {', '.join(old)}; draw them: python -P scripts/definitions.py --write", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
