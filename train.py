"""Trains, validates, tests and samples: ``python train.py fit --config configs/digits.yaml``."""

from thermoebm.runtime import signals
from thermoebm.runtime.collection import importing

if __name__ == "__main__":
    with signals.listening():
        with importing():
            from thermoebm.cli.train import CLI
        CLI()
