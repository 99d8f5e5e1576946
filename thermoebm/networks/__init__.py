"""Networks: energies f_α on latents and on images, generators g_β of images, and encoders q_φ of images.

Energy and generator of latents follow table 5 of the report; a generator has as many upsampling layers as its image
size needs. Two features of the report's code that its text does not mention, a vector-valued energy and a
normalisation, are options. Encoders and energies of images are of the divergence triangle, a generator reversed.
"""

from thermoebm.networks.base import Encoder, Energy, Generator, ImageEnergy
from thermoebm.networks.encoders import ConvEncoder
from thermoebm.networks.energies import ConvEnergy, EnergyMLP
from thermoebm.networks.generators import ConvGenerator
from thermoebm.networks.generators import _FirstLayer as _FirstLayer  # for tests of the layers
from thermoebm.networks.generators import _LastLayer as _LastLayer
from thermoebm.networks.generators import _TrainedStatistics as _TrainedStatistics

__all__ = [
    "ConvEncoder",
    "ConvEnergy",
    "ConvGenerator",
    "Encoder",
    "Energy",
    "EnergyMLP",
    "Generator",
    "ImageEnergy",
]
