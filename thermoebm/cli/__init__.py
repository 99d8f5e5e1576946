"""The programs: train.py, evaluate.py, ``python -m thermoebm.study`` and what else is started by a name.

They parse arguments, tell faults in a sentence and leave the work to the folders below.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "train": "CLI",
    },
)
