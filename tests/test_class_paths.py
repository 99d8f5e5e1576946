"""The class paths that configs, checkpoints and the hashes of studies have: none of them may change."""

import importlib
import inspect
import pkgutil

import jsonargparse
import lightning.pytorch as pl

import thermoebm
import thermoebm.data
from tests.cli.test_train import SHORT, assert_fault
from thermoebm.callbacks import EnergyAlarm, ParameterAlarm
from thermoebm.data import names
from thermoebm.modules import VAE
from thermoebm.networks import Encoder, Energy, Generator, ImageEnergy
from thermoebm.objectives import Objective
from thermoebm.samplers import Kernel
from thermoebm.schedules import Schedule

#: Everything that a config can name.
PATHS = [
    "thermoebm.callbacks.AnnealedEvidence",
    "thermoebm.callbacks.BestCheckpoint",
    "thermoebm.callbacks.ChainDiagnostics",
    "thermoebm.callbacks.Companions",
    "thermoebm.callbacks.Cost",
    "thermoebm.callbacks.EnergyAlarm",
    "thermoebm.callbacks.EnergyHistogram",
    "thermoebm.callbacks.GenerationMetrics",
    "thermoebm.callbacks.GradientVariance",
    "thermoebm.callbacks.HParams",
    "thermoebm.callbacks.IntegrandPlot",
    "thermoebm.callbacks.InterpolationGrid",
    "thermoebm.callbacks.Interruption",
    "thermoebm.callbacks.LastCheckpoint",
    "thermoebm.callbacks.NotFiniteAlarm",
    "thermoebm.callbacks.ParameterAlarm",
    "thermoebm.callbacks.PosteriorAlarm",
    "thermoebm.callbacks.PriorStability",
    "thermoebm.callbacks.Progress",
    "thermoebm.callbacks.ReconstructionGrid",
    "thermoebm.callbacks.RunDirectory",
    "thermoebm.callbacks.SampleGrid",
    "thermoebm.callbacks.TriangleAlarm",
    "thermoebm.callbacks.ZeroGradientAlarm",
    "thermoebm.data.Arrays",
    "thermoebm.data.CIFAR10",
    "thermoebm.data.CelebA",
    "thermoebm.data.Digits",
    "thermoebm.data.ImageFolder",
    "thermoebm.data.MNIST",
    "thermoebm.data.SVHN",
    "thermoebm.modules.DivergenceTriangle",
    "thermoebm.modules.LatentEBM",
    "thermoebm.modules.VAE",
    "thermoebm.networks.ConvEncoder",
    "thermoebm.networks.ConvEnergy",
    "thermoebm.networks.ConvGenerator",
    "thermoebm.networks.EnergyMLP",
    "thermoebm.objectives.MaximumLikelihood",
    "thermoebm.objectives.ThermodynamicIntegration",
    "thermoebm.samplers.MALA",
    "thermoebm.samplers.ReplicaExchange",
    "thermoebm.samplers.ULA",
    "thermoebm.schedules.Adaptive",
    "thermoebm.schedules.Geometric",
    "thermoebm.schedules.PowerLaw",
    "thermoebm.schedules.Sigmoidal",
    "thermoebm.schedules.Temperatures",
]
#: Classes that others are made of, and that configs name themselves.
_BOTH = (EnergyAlarm, ParameterAlarm, VAE)
_NETWORKS = (Encoder, Energy, Generator, ImageEnergy)
_KINDS = (pl.LightningModule, pl.LightningDataModule, pl.Callback, *_NETWORKS, Objective, Kernel, Schedule)


def ours(member):
    """Whether a class is the package's own, and not only its programs' (or a test's)."""
    return member.__module__.startswith("thermoebm.") and not member.__module__.startswith("thermoebm.cli.")


def only_a_base(member):
    return member not in _BOTH and any(map(ours, member.__subclasses__()))


def found():
    """Every public class of the package that a config's field takes a subclass of; no mere base."""
    for module in pkgutil.walk_packages(thermoebm.__path__, "thermoebm."):
        for name, member in vars(importlib.import_module(module.name)).items():
            named = inspect.isclass(member) and ours(member) and issubclass(member, _KINDS) and not name.startswith("_")
            if named and not inspect.isabstract(member) and not only_a_base(member):
                yield member


def test_every_class_is_written_by_the_path_that_configs_have():
    """jsonargparse writes the shortest path that leads to a class: what thermoebm itself hands out is no such path."""
    assert thermoebm.LatentEBM.__module__ == "thermoebm.modules.latent_ebm"
    written = {}
    for member in found():
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_argument("--part", type=type[member])
        given = f"{member.__module__}.{member.__qualname__}"
        written[given] = parser.dump(parser.parse_object({"part": given})).split()[-1]
    assert sorted(written.values()) == PATHS


def test_the_names_that_thermoebm_hands_out_are_no_class_paths(capsys, tmp_path):
    """Two paths of one class would be two hashes of one run: the short one is refused as it always was."""
    assert thermoebm.ULA.__name__ == "ULA"
    said = "Problem with given class_path 'thermoebm.ULA': module 'thermoebm' has no attribute 'ULA'"
    assert_fault(capsys, tmp_path / "runs", said, "fit", *SHORT, "--model.prior_sampler", "thermoebm.ULA")


def test_every_data_set_has_a_name():
    kinds = (getattr(thermoebm.data, name) for name in thermoebm.data.__all__)
    sets = {kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, thermoebm.data.ImageDataModule)}
    assert {*names._SETS.values()} == sets - {thermoebm.data.ImageDataModule}
    assert {kind.__name__.lower(): kind for kind in names._SETS.values()} == names._SETS
