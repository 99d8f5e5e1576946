"""The thermodynamic integrand as a figure (report, figure 2)."""

import lightning.pytorch as pl
from matplotlib.figure import Figure
from torch import Tensor

from thermoebm import evidence
from thermoebm.callbacks.grids import held_out
from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.pictures import PictureCallback, figure_image
from thermoebm.modules import ImageModel, LatentEBM
from thermoebm.objectives import ThermodynamicIntegration


class IntegrandPlot(OfKind, PictureCallback):
    """E_t[log p_β(x|z)] against t on held-out images, with the trapezium's bins.

    The temperatures are those of the objective's schedule if it has one, else of the model's evidence schedule.

    Args:
        every_n_epochs: Interval; 0: never.
        count: Number of held-out images averaged over.
    """

    name = "integrand"

    def __init__(self, every_n_epochs: int = 10, count: int = 75) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self._check_positive("count")

    def picture(self, trainer: pl.Trainer, model: ImageModel) -> Tensor:
        assert isinstance(model, LatentEBM)
        objective = model.objective
        schedule = objective.schedule if isinstance(objective, ThermodynamicIntegration) else model.evidence_schedule
        x = held_out(trainer, model, self.count)
        with trainer.precision_plugin.forward_context():  # as in training, whose compiled chains are used
            temperatures, expected = model.ladder(x, schedule, model.stream("integrand"))
        return figure_image(integrand_figure(temperatures.cpu(), expected.mean(-1).cpu(), schedule.describe()))


def integrand_figure(temperatures: Tensor, expected: Tensor, schedule: str) -> Figure:
    """Draws the integrand, against t and against the rungs: with a large p most temperatures are nearly 0.

    Args:
        temperatures: (T,).
        expected: E_t[log p_β(x|z)] (T,), in nats.
        schedule: The schedule in a few words, for the title.
    """
    t, mean = temperatures.double(), expected.double()
    left, right = evidence.bracket(t, mean)
    floor = float(mean.min() - 0.1 * (mean.max() - mean.min()).clamp(min=1e-6))
    heights, rungs = mean.tolist(), range(len(t))
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    against_t, against_i = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for i in range(len(t) - 1):
        ends = slice(i, i + 2)
        colour = f"C{0 if i % 2 else 9}"
        against_t.fill_between(t[ends].tolist(), heights[ends], floor, color=colour, alpha=0.25, linewidth=0)
    for axes, at in ((against_t, t.tolist()), (against_i, rungs)):
        axes.vlines(at, floor, heights, color="C0", linewidth=0.8)
        axes.plot(at, heights, "o-", color="C0", markersize=4)
        axes.spines[["top", "right"]].set_visible(False)
    against_t.set(xlabel="temperature t", ylabel="E$_t$[log p(x|z)]  (nats per image)", xlim=(-0.02, 1.02))
    against_t.set_ylim(bottom=floor)
    against_i.set(xlabel="rung i of the ladder")
    against_i.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(
        f"Integrand, {schedule}: trapezium {float(evidence.trapezium(t, mean)):.1f} nats\n"
        f"left sum {float(left):.1f}, right sum {float(right):.1f} (short chains)",
        fontsize=10,
    )
    return figure
