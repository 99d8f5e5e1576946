"""Applications of a trained model: at present, its evaluation.

Each application takes a checkpoint and no other file of its run.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "evaluation": "Fidelity Reference Settings bits_per_dimension held_out",
    },
)
