"""The two networks of the model: the energy f_α on latents and the generator g_β from latents to images.

Architectures follow table 5 of the report; the generator has as many upsampling layers as its image size needs. Two
features of the report's code that its text does not mention, a vector-valued energy and a normalisation, are options.
"""

from thermoebm.networks.base import Energy, Generator
from thermoebm.networks.energies import EnergyMLP
from thermoebm.networks.generators import ConvGenerator
from thermoebm.networks.generators import _FirstLayer as _FirstLayer  # for tests of the layers
from thermoebm.networks.generators import _LastLayer as _LastLayer
from thermoebm.networks.generators import _TrainedStatistics as _TrainedStatistics

__all__ = ["ConvGenerator", "Energy", "EnergyMLP", "Generator"]
