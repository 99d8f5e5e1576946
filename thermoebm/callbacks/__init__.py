"""Callbacks that monitor training: pictures, alarms, chains, gradient variance, distances to images, cost and progress.

Training is bitwise identical with and without them.
"""

from thermoebm.callbacks.alarms import NotFiniteAlarm, ZeroGradientAlarm
from thermoebm.callbacks.annealed_evidence import AnnealedEvidence
from thermoebm.callbacks.best_checkpoint import BestCheckpoint
from thermoebm.callbacks.chain_diagnostics import ChainDiagnostics
from thermoebm.callbacks.companions import Companions, lost_in
from thermoebm.callbacks.cost import Cost
from thermoebm.callbacks.energy_alarm import EnergyAlarm
from thermoebm.callbacks.generation_metrics import GenerationMetrics
from thermoebm.callbacks.gradient_variance import GradientVariance
from thermoebm.callbacks.grids import InterpolationGrid, ReconstructionGrid, SampleGrid
from thermoebm.callbacks.hparams import HParams
from thermoebm.callbacks.image_energies import EnergyHistogram
from thermoebm.callbacks.integrand import IntegrandPlot
from thermoebm.callbacks.interruption import Interruption
from thermoebm.callbacks.parameter_alarm import ParameterAlarm
from thermoebm.callbacks.posterior_alarm import PosteriorAlarm
from thermoebm.callbacks.prior_stability import PriorStability
from thermoebm.callbacks.progress import Progress
from thermoebm.callbacks.run_directory import LastCheckpoint, RunDirectory
from thermoebm.callbacks.triangle_alarm import TriangleAlarm

__all__ = [
    "AnnealedEvidence",
    "BestCheckpoint",
    "ChainDiagnostics",
    "Companions",
    "Cost",
    "EnergyAlarm",
    "EnergyHistogram",
    "GenerationMetrics",
    "GradientVariance",
    "HParams",
    "IntegrandPlot",
    "InterpolationGrid",
    "Interruption",
    "LastCheckpoint",
    "NotFiniteAlarm",
    "ParameterAlarm",
    "PosteriorAlarm",
    "PriorStability",
    "Progress",
    "ReconstructionGrid",
    "RunDirectory",
    "SampleGrid",
    "TriangleAlarm",
    "ZeroGradientAlarm",
    "lost_in",
]
