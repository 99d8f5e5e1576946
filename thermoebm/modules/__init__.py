"""The model: a LightningModule with its networks, how its chains are run, and how images are drawn from it.

It wires densities, samplers and an objective to two networks and steps their optimiser.
"""

from thermoebm.modules.chains import Chains
from thermoebm.modules.generation import draw
from thermoebm.modules.latent_ebm import LatentEBM

__all__ = ["Chains", "LatentEBM", "draw"]
