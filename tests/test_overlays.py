"""Overlays on top of the digits' config: the objects that come out of them, built and run by train.py for one batch."""

import math
import warnings
from functools import cache

import pytest

from tests.cli.test_train import ROOT, SHORT, cli
from thermoebm.callbacks import GenerationMetrics, IntegrandPlot, ReconstructionGrid, SampleGrid
from thermoebm.networks import EnergyMLP, _TrainedStatistics
from thermoebm.objectives import GaussianKL, MaximumLikelihood, ThermodynamicIntegration
from thermoebm.schedules import PowerLaw

CONFIGS = ROOT / "configs"
REPORT_CODE = CONFIGS / "report_code.yaml"
MEASURED = (
    *("--fidelity.every_n_epochs", 1, "--fidelity.extractor", "tests.extractors.Flat"),
    *("--fidelity.num_samples", 80, "--fidelity.sizes", "[40, 60, 80]"),
)


@cache
def built(*overlays, more=()):
    """What train.py trains for one batch, what it said and what it warned of; once for all tests that ask for it."""
    configs = [argument for overlay in overlays for argument in ("--config", overlay)]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        program, said = cli("fit", *SHORT, *configs, *more, "--trainer.fast_dev_run", "true")
    return program, said, {str(w.message) for w in seen if w.category is UserWarning}


def test_report_code_sets_every_reading_of_the_published_runs():
    """Field by field; the opening line tells what those runs were: no gradient from η, none to the energy."""
    program, said, warned = built(REPORT_CODE, more=MEASURED)
    model, objective = program.model, program.model.objective
    assert (program.config.fit.name, program.config.fit.variant) == ("digits", "report_code")
    assert isinstance(objective, ThermodynamicIntegration)
    assert (objective.estimator, objective.eta) == ("detached", 1.0)
    assert objective.schedule == PowerLaw(10, 6.0, "points")
    assert objective.kl == GaussianKL("difference", "full", shrinkage=0.0, softmax=True, ridge=1e-5)
    assert isinstance(model.energy, EnergyMLP)
    assert model.energy.layers[4].out_features == 32
    assert sum(isinstance(layer, _TrainedStatistics) for layer in model.generator.layers) == 2
    assert (model.decay_interval, model.likelihood.constant, model.pixel_noise) == ("step", "logsumexp", False)
    assert program.datamodule.shuffle == "once"
    callbacks = program.trainer.callbacks
    (metrics,) = [callback for callback in callbacks if isinstance(callback, GenerationMetrics)]
    assert (metrics.kernels, metrics.protocol) == (("rbf",), "with_replacement")
    for picture in (SampleGrid, ReconstructionGrid, IntegrandPlot):  # those of digits.yaml stay
        assert sum(isinstance(callback, picture) for callback in callbacks) == 1
    notes = "the energy never learns, eta = 1 changes the logged nll and no gradient"
    assert said.count(f"ThermodynamicIntegration ({notes}) on ") == 1
    assert not warned
    logged = program.trainer.callback_metrics
    assert logged["train/loss"] > 64 * math.log(64)  # D ln D is its least value, by Jensen's inequality
    assert {name.partition("[")[0] for name in logged if "fidelity" in name} == {
        "fidelity/train/FD",
        "fidelity/train/KD-rbf",
    }


def test_the_vanilla_model_has_the_same_readings():
    """Maximum likelihood on top: the objective changes, the networks and the loss's constant do not."""
    program, said, warned = built(REPORT_CODE, CONFIGS / "mle.yaml", more=MEASURED)
    assert isinstance(program.model.objective, MaximumLikelihood)
    assert (program.model.likelihood.constant, program.model.energy.layers[4].out_features) == ("logsumexp", 32)
    assert "MaximumLikelihood on " in said
    assert not warned


@pytest.mark.parametrize("estimator", ["endpoints", "contrastive", "detached", "pathwise"])
def test_estimators_change_the_estimator_and_nothing_else(estimator):
    """On top of the digits' objective and of ti.yaml's: schedule, η and the rest are those below."""
    overlay = CONFIGS / "estimators" / f"{estimator}.yaml"
    assert {path.stem for path in overlay.parent.iterdir()} == {"endpoints", "contrastive", "detached", "pathwise"}
    for below, eta in ((), 0.0), ((CONFIGS / "ti.yaml",), 1.0):
        program, said, warned = built(*below, overlay)
        plain, *_ = built(*below)
        fields = vars(program.model.objective)
        assert fields == vars(plain.model.objective) | {"estimator": estimator}
        assert (fields["schedule"], fields["eta"]) == (PowerLaw(10, 6.0, "intervals"), eta)
        assert program.config.fit.variant == "-".join(filter(None, (plain.config.fit.variant, estimator)))
        assert ("eta = 1 changes" in said) == (eta > 0 and estimator != "pathwise")
        assert ("the energy never learns" in said) == (estimator == "detached")
        assert not warned
