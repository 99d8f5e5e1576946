"""LightningModules."""

from thermoebm.modules.latent_ebm import LatentEBM

__all__ = ["LatentEBM"]
