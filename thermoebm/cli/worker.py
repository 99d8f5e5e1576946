"""``python -m thermoebm.cli.worker RUN_DIRECTORY``: one run of a study, trained by train.py and judged by evaluate.py.

Both are imported when their turn comes: a worker first makes sure that the run is its own.
"""

import sys

from thermoebm.study.running import worker


def train(arguments: list[str]) -> None:
    """``train.py``."""
    from thermoebm.cli.train import CLI

    sys.argv = sys.argv[:1]  # Lightning wonders otherwise
    CLI(arguments)


def evaluate(arguments: list[str]) -> None:
    """``evaluate.py``."""
    from thermoebm.cli.evaluate import main

    main(arguments)


if __name__ == "__main__":
    sys.exit(worker.main(train, evaluate))
