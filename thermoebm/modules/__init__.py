"""The model: a LightningModule with its networks, the execution of its chains, and the generation of images.

The module connects densities, samplers and an objective to the two networks and steps their optimiser.
"""

from thermoebm.modules.chains import Chains
from thermoebm.modules.divergence_triangle import DivergenceTriangle
from thermoebm.modules.finiteness import not_finite
from thermoebm.modules.generation import draw
from thermoebm.modules.image_model import ImageModel
from thermoebm.modules.latent_ebm import LatentEBM
from thermoebm.modules.vae import VAE

__all__ = ["VAE", "Chains", "DivergenceTriangle", "ImageModel", "LatentEBM", "draw", "not_finite"]
