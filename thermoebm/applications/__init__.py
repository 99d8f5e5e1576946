"""Applications of a trained model: its evaluation, and the evidence of images.

Each application takes a checkpoint and no other file of its run.
"""

from thermoebm.runtime import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    {
        "evaluation": "Fidelity Reference",
        "held_out_images": "HeldOut held_out",
        "settings": "Settings",
    },
)
