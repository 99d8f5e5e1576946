"""``python -m thermoebm.cli.worker RUN_DIRECTORY``: one run of a study, with train.py and then evaluate.py.

Both are imported only when needed: a worker first makes sure that no other worker has the run.
"""

import sys

from thermoebm.study.running import worker


def train(arguments: list[str]) -> None:
    """``train.py``."""
    from thermoebm.cli.train import CLI

    sys.argv = sys.argv[:1]  # else Lightning warns of two sources of arguments
    CLI(arguments)


def evaluate(arguments: list[str]) -> None:
    """``evaluate.py``."""
    from thermoebm.cli.evaluate import main

    main(arguments)


if __name__ == "__main__":
    sys.exit(worker.main(train, evaluate))
