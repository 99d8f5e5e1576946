"""Callbacks: what is watched while a model trains."""

from thermoebm.callbacks.alarms import EnergyAlarm, ZeroGradientAlarm
from thermoebm.callbacks.grids import ReconstructionGrid, SampleGrid
from thermoebm.callbacks.integrand import IntegrandPlot
from thermoebm.callbacks.progress import Progress

__all__ = ["EnergyAlarm", "IntegrandPlot", "Progress", "ReconstructionGrid", "SampleGrid", "ZeroGradientAlarm"]
