"""The command-line programs: train.py, evaluate.py, ``python -m thermoebm.study`` and others started as modules.

They parse arguments, report faults in one sentence and leave the work to the other packages.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "train": "CLI",
    },
)
