"""Latent-space energy-based models trained by maximum likelihood or thermodynamic integration.

What is typed first is here: the model, its networks, what it learns by and how it is sampled, and ``load`` for a
checkpoint. Each is imported when it is asked for.
"""

import sys
from typing import TYPE_CHECKING, Any

from thermoebm.runtime import lazy as _lazy
from thermoebm.runtime import torchvision as _torchvision

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from thermoebm.modules import VAE, DivergenceTriangle, LatentEBM
    from thermoebm.networks import ConvGenerator, EnergyMLP
    from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
    from thermoebm.runs.checkpoints import load_model as load
    from thermoebm.samplers import ULA
    from thermoebm.schedules import PowerLaw

__version__ = "0.2.0"
__all__ = [
    "ULA",
    "VAE",
    "ConvGenerator",
    "DivergenceTriangle",
    "EnergyMLP",
    "LatentEBM",
    "MaximumLikelihood",
    "PowerLaw",
    "ThermodynamicIntegration",
    "load",
]

_torchvision.install()

_get, __dir__, _ = _lazy.attach(
    __name__,
    {
        "modules": "DivergenceTriangle LatentEBM VAE",
        "networks": "ConvGenerator EnergyMLP",
        "objectives": "MaximumLikelihood ThermodynamicIntegration",
        "runs": "load=load_model",
        "samplers": "ULA",
        "schedules": "PowerLaw",
    },
)


def __getattr__(name: str) -> Any:
    # jsonargparse writes a class by the shortest path that leads to it, and would take a shorter one as it is given.
    # Configs, and with them the hashes of studies and what a resumed run is compared by, have the path of the folder,
    # as in thermoebm.modules.LatentEBM: for jsonargparse there is no other.
    if sys._getframe(1).f_code.co_name in ("get_import_path", "import_object"):
        raise AttributeError(f"module 'thermoebm' has no attribute '{name}'")
    return _get(name)
