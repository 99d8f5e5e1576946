"""The callback that diagnoses chains, and its figure: what is logged, what is drawn, and what is left alone."""

import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from thermoebm.callbacks import ChainDiagnostics
from thermoebm.callbacks.chain_figure import chain_figure
from thermoebm.modules.diagnosis import diagnose
from thermoebm.samplers import ULA

NAMES = {
    "prior": {"acceptance", "ess_per_step", "rhat", "short_rhat", "energy_gap", "energy_gap_se"},
    "posterior": {
        *("acceptance", "ess_per_step", "rhat", "short_rhat", "energy_gap", "energy_gap_se"),
        *("log_likelihood_gap", "log_likelihood_gap_se"),
    },
}
LOGGED = {f"chains/{density}/{name}" for density, names in NAMES.items() for name in names}
KERNELS = {"prior_sampler": ULA(0.1, 5), "posterior_sampler": ULA(0.001, 6)}


def callback(**fields):
    return ChainDiagnostics(**{"every_n_epochs": 1, "count": 4, "long_steps": 40, **fields})


def chains_of(metrics):
    return {name: value.item() for name, value in metrics.items() if name.startswith("chains/")}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_diagnosis_is_logged_and_drawn(small_model, fit, tmp_path, precision):
    """The scalars are those of the diagnosis of the trained model's chains on the first held-out images."""
    model, seen = small_model(**KERNELS), []
    handle = model.generator.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    trainer = fit(model, callback(), precision=precision)
    handle.remove()
    logged = chains_of(trainer.callback_metrics)
    assert logged.keys() == LOGGED
    assert all(map(math.isfinite, logged.values()))
    assert seen[-1] is False  # ℓ of what is compared
    with Image.open(tmp_path / "chains" / "epoch-0001.png") as image:
        assert np.asarray(image).std() > 10
    x = next(iter(trainer.datamodule.val_dataloader()))[:4]
    with trainer.precision_plugin.forward_context():
        found = diagnose(model, x, lambda i: model.stream("chain diagnostics", i), long_steps=40)
    for density, diagnosis in found.items():
        for name, value in diagnosis.scalars().items():
            assert logged[f"chains/{density}/{name}"] == pytest.approx(value, rel=1e-5)


def test_training_is_the_same_with_and_without(small_model, fit):
    """Bit by bit, over two epochs; without it, or with an interval of 0, nothing is logged."""
    weights = []
    for given in (pl.Callback(), callback(every_n_epochs=0), callback()):
        model = small_model(**KERNELS)
        metrics = fit(model, given, max_epochs=2, num_sanity_val_steps=1).callback_metrics
        assert bool(chains_of(metrics)) == (getattr(given, "every_n_epochs", 0) == 1)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(weights[1], weights[0])
    assert torch.equal(weights[2], weights[0])


def test_what_is_not_defined_is_not_logged_and_told_once(small_model, fit):
    """Chains of two and three steps have no R-hat."""
    model = small_model(prior_sampler=ULA(0.1, 3), posterior_sampler=ULA(0.001, 2))
    said = "chains/posterior/short_rhat, chains/prior/short_rhat cannot be computed and will not be logged"
    with pytest.warns(UserWarning, match=f"Chain diagnostics at epoch 0: {said}") as seen:
        metrics = chains_of(fit(model, callback(), max_epochs=2).callback_metrics)
    assert len([w for w in seen if "will not be logged" in str(w.message)]) == 1
    assert metrics.keys() == {name for name in LOGGED if not name.endswith("short_rhat")}


def test_a_network_that_is_not_finite_ends_no_training(small_model, fit, tmp_path):
    model = small_model(**KERNELS)

    def spoil(*_):
        if model.global_step == 2:  # after the last step
            model.energy.layers[0].bias.data.fill_(math.nan)

    model.on_train_batch_end = spoil
    with pytest.warns(UserWarning, match=r"Chains were not diagnosed at epoch 0\. Pilot: at temperature 1 "):
        trainer = fit(model, callback())
    assert trainer.global_step == 2
    assert chains_of(trainer.callback_metrics) == {}
    assert not (tmp_path / "chains").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"every_n_epochs": -1}, "every_n_epochs is -1; it must not be negative"),
        ({"count": 0}, "count is 0; it must be at least 1"),
        ({"chains": 1}, "chains is 1 and long_steps 2000; they must be at least 2 and 8"),
        ({"long_steps": 7}, "chains is 4 and long_steps 7; they must be at least 2 and 8"),
    ],
)
def test_impossible_settings_are_refused(fields, said):
    with pytest.raises(ValueError, match=f"ChainDiagnostics: {said}"):
        ChainDiagnostics(**fields)


@pytest.fixture(scope="module")
def found():
    """A diagnosis of three random images, in float64."""
    from thermoebm.modules import LatentEBM
    from thermoebm.networks import ConvGenerator, EnergyMLP

    torch.manual_seed(0)
    model = LatentEBM(EnergyMLP(4, 16), ConvGenerator(4, (1, 8, 8), 2), None, **KERNELS, compile="off").double()
    x = 2 * torch.rand(3, 1, 8, 8, dtype=torch.float64) - 1
    return diagnose(model, x, lambda i: model.stream("test", i), long_steps=60)


def test_the_figure_draws_what_was_measured(found):
    """A row for each density; its lines and markers are the traces, distributions, autocorrelations and R-hats."""
    figure = chain_figure(found, "the title")
    assert len(figure.axes) == 8
    assert figure.texts[0].get_text() == "the title"
    for row, diagnosis in enumerate(found.values()):
        means, distribution, autocorrelation, rhat = figure.axes[4 * row : 4 * row + 4]
        main, quantities = next(iter(diagnosis.judged.values)), len(diagnosis.judged.values)
        settled = diagnosis.judged.values[main].mean()
        short, long = (line.get_xydata() for line in means.lines[:2])
        np.testing.assert_allclose(short[:, 0], diagnosis.short.steps)
        np.testing.assert_allclose(short[:, 1], diagnosis.short.values[main].mean((0, 2)) - settled)
        np.testing.assert_allclose(long[0], short[-1])  # the long chains go on from there
        at = {int(step): k for k, step in enumerate(diagnosis.long.steps)}
        expected = [diagnosis.long.values[main][:, at[int(step)]].mean() - settled for step in long[1:, 0]]
        np.testing.assert_allclose(long[1:, 1], expected)

        centre = diagnosis.judged.values[main].mean((0, 1))
        ends = (diagnosis.short.values[main][:, -1] - centre).flatten().sort().values
        np.testing.assert_allclose(distribution.lines[0].get_xdata(), ends)
        np.testing.assert_allclose(distribution.lines[0].get_ydata(), np.arange(1, len(ends) + 1) / len(ends))
        assert len(distribution.lines[1].get_xdata()) == diagnosis.judged.values[main].numel()

        lags, rho = diagnosis.autocorrelation(main)
        drawn = autocorrelation.lines[0].get_xydata()
        np.testing.assert_allclose(drawn, np.stack([lags, rho], 1)[1 : len(drawn) + 1])
        for axes in (means, autocorrelation):
            assert [text.get_text() for text in axes.texts] == [" K"]
            assert axes.texts[0].get_position()[0] == diagnosis.num_steps

        assert len(rhat.lines) == 2 * (quantities + 1) + 1
        for k, name in enumerate(diagnosis.judged.rhat):
            for line, trace in zip(rhat.lines[2 * k : 2 * k + 2], (diagnosis.short, diagnosis.judged), strict=True):
                np.testing.assert_allclose(line.get_xdata(), (trace.rhat[name] - 1).clamp(1e-3, 10))
        said = figure.texts[row + 1].get_text()
        assert f"acceptance {diagnosis.acceptance:.2f}" in said
        assert f"{diagnosis.gap('energy').mean:+.2g} ± {diagnosis.gap('energy').standard_error:.1g}" in said


def test_nothing_in_the_figure_is_cut_off_or_lies_upon_another_text(found):
    figure = chain_figure(found, "Short chains against long corrected ones, epoch 100")
    figure.draw_without_rendering()
    canvas = figure.bbox
    outside = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    boxes = [text.get_window_extent() for text in [*figure.texts, *outside, *(a._left_title for a in figure.axes)]]
    boxes = [box for box in boxes if box.width > 1]
    for i, box in enumerate(boxes):
        assert canvas.x0 <= box.x0
        assert box.x1 <= canvas.x1
        assert canvas.y0 <= box.y0
        assert box.y1 <= canvas.y1
        assert not any(box.overlaps(other) for other in boxes[:i])
