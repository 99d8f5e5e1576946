"""What a divergence triangle's energy says of images, real and others, as a figure."""

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from thermoebm.callbacks.grids import held_out
from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.pictures import PictureCallback, figure_image
from thermoebm.modules import DivergenceTriangle, ImageModel
from thermoebm.modules.generation import BATCH


class EnergyHistogram(OfKind, PictureCallback):
    """Histograms of f_α(x), in nats, over held-out images and five kinds of images that are none of them.

    These are the model's samples, means of two held-out images, held-out images whose pixels are shuffled or which are
    turned by 90 degrees, and uniform noise. The legend has the area under the ROC curve of each against the held-out
    images: the probability that f_α is larger for a held-out image. An energy that knows the data has 1, except for
    samples: those of a perfect generator have .5.

    Args:
        every_n_epochs: Interval; 0: never.
        count: Number of images of each kind.
    """

    name = "energies"
    kind = DivergenceTriangle
    measures = "the energy of images"

    def __init__(self, every_n_epochs: int = 10, count: int = 300) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self._check_positive("count")

    def picture(self, trainer: pl.Trainer, model: ImageModel) -> Tensor:
        assert isinstance(model, DivergenceTriangle)
        x = held_out(trainer, model, self.count)
        with model.averaged_weights():
            energies = energies_of(model, x, model.stream("energy histogram"))
        return figure_image(energy_figure(energies, f"epoch {trainer.current_epoch + 1}"))


def energies_of(model: DivergenceTriangle, x: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    """f_α (B,) of images (B, C, H, W), the first, and of as many images of each other kind, by name."""
    count, pixels = len(x), x[0].numel()
    order = torch.rand(count, pixels, generator=rng, device=rng.device).argsort(1)
    kinds = {
        "held-out images": x,
        "samples": torch.cat([model.generate(len(part), rng) for part in x.split(BATCH)]),
        "means of two": (x + x.roll(1, 0)) / 2,
        "shuffled pixels": x.flatten(1).gather(1, order).view_as(x),
        "turned by 90 degrees": x.rot90(1, (2, 3)),
        "uniform noise": 2 * torch.rand(x.shape, generator=rng, device=rng.device) - 1,
    }
    return {name: torch.cat([model.energies(part) for part in images.split(BATCH)]) for name, images in kinds.items()}


def area_under_roc(larger: Tensor, smaller: Tensor) -> float:
    """The probability that a value of the first (N,) is larger than one of the second (M,), ties counted by half.

    It is the area under the ROC curve, or the statistic of Mann and Whitney over N M.
    """
    ordered = smaller.double().sort().values
    below, up_to = (torch.searchsorted(ordered, larger.double(), right=right) for right in (False, True))
    return ((below + up_to).double().mean() / (2 * len(ordered))).item()


def energy_figure(energies: dict[str, Tensor], title: str) -> Figure:
    """Draws the histograms; the first ones are of real images."""
    real, *_ = energies.values()
    every = torch.cat([*energies.values()])
    every = every[every.isfinite()]
    if not len(every):
        every = real.new_zeros(1)
    low, high = every.quantile(0.002).item(), every.quantile(0.998).item() + 1e-6
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for i, (name, values) in enumerate(energies.items()):
        label = name if i == 0 else f"{name}: AUROC {area_under_roc(real, values):.2f}"
        if lost := int((~values.isfinite()).sum()):
            label += f"; {lost} not finite"
            values = values[values.isfinite()]
        shown = values.clamp(low, high).cpu().numpy()
        axes.hist(shown, bins=60, range=(low, high), density=True, alpha=0.55, label=label, color=f"C{i}")
    axes.set(xlabel="f(x), nats (higher: denser)", ylabel="share per nat", title=f"Energies of images, {title}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
