"""python -m tests.endurance [--short] [HARM ...]: does harm to runs, and counts what held. Status 1: something did not.

It needs minutes, and writes to a temporary folder only.
"""

import argparse
import os
import tempfile
from pathlib import Path

from tests import endurance


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("harms", nargs="*", metavar="HARM", help=f"default: all of {', '.join(endurance.HARMS)}")
    parser.add_argument("--short", action="store_true", help="a few tries of each, as the tests have them")
    options = parser.parse_args()
    if unknown := {*options.harms} - {*endurance.HARMS}:
        parser.error(f"there is no harm {sorted(unknown)[0]}; take some of {', '.join(endurance.HARMS)}")
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        os.environ["THERMOEBM_CACHE"] = f"{folder}/cache"
        tried = list(endurance.trials(options.harms or endurance.HARMS, Path(folder), options.short))
    print(endurance.table(tried))
    return 0 if all(held for _, held in tried) else 1


if __name__ == "__main__":
    raise SystemExit(main())
