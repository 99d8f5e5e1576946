"""Trains, validates, tests and samples: ``python train.py fit --config configs/digits.yaml``."""

from thermoebm.runtime.collection import importing

with importing():
    from thermoebm.cli.train import CLI

if __name__ == "__main__":
    CLI()
