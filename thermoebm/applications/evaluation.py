"""Evaluation of a trained model: distances of its samples to real images, short-run evidence, reconstructions."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thermoebm.applications.settings import Settings
from thermoebm.callbacks.gradient_report import AcrossParameters, report_scalars
from thermoebm.callbacks.grids import reconstruction_grid
from thermoebm.callbacks.image_energies import energies_of
from thermoebm.data import ImageDataModule, named
from thermoebm.gradients.draws import measure, trainable
from thermoebm.metrics import features
from thermoebm.metrics.extrapolation import Extrapolation, fit_sizes
from thermoebm.metrics.features import Extractor
from thermoebm.metrics.fidelity import inception_score, mifid
from thermoebm.metrics.summary import summarise
from thermoebm.modules import DivergenceTriangle, ImageModel, LatentEBM, generation
from thermoebm.modules.annealed import LEVELS_PER_UNIT
from thermoebm.modules.diagnosis import Diagnosis, diagnose
from thermoebm.runs import checkpoints
from thermoebm.runtime import randomness


def gradient_variance(model: ImageModel, data: ImageDataModule, settings: Settings) -> dict[str, float]:
    """The gradient variances of held-out batches, under the names that training logs.

    See :class:`thermoebm.callbacks.GradientVariance`; ``across_parameters`` is averaged over the draws that
    ``per_parameter`` is estimated from.
    """
    across = AcrossParameters(list(trainable(model)))
    name = "evaluate gradient variance"
    noise, order = model.stream(name, settings.seed), model.stream(f"{name} data", settings.seed)
    state = measure(
        model.loss, model, data.test_dataloader(), noise, order, observe=across.update, title="gradient variance"
    )
    return across.scalars() | report_scalars(state.report(), state.names)


class Reference(NamedTuple):
    """Real images to compare samples with, their feature extractor, subset sizes, and remarks in sentences."""

    real: Tensor
    extractor: Extractor
    sizes: list[int]
    remarks: list[str]


class Fidelity(NamedTuple):
    """Distances of samples to real images: scalars by name, the lines fitted to them, and remarks in sentences."""

    scalars: dict[str, float]
    lines: dict[str, Extrapolation]
    remarks: list[str]


def check(settings: Settings) -> None:
    """Checks settings as far as possible before any model or image is loaded.

    Raises:
        ValueError: If there is no such device or extractor, the seed is negative, or the sizes are unsuitable.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device here; use --device cpu or auto.")
    if settings.seed < 0:
        raise ValueError(f"seed is {settings.seed}; give a number of at least 0.")
    fit_sizes(settings.num_samples, settings.sizes)
    # A classifier may need the data set, and whether weights may be downloaded its config tells.
    if settings.extractor != "inception" and not settings.extractor.startswith("classifier"):
        features.extractor(settings.extractor)


def load(path: Path, settings: Settings) -> tuple[ImageModel, ImageDataModule]:
    """The model of a checkpoint and its data set; needs only the checkpoint and the data.

    Raises:
        ValueError: If either cannot be loaded.
    """
    fields: dict[str, Any] = {"root": settings.root} if settings.root else {}
    fields |= {} if settings.download is None else {"download": settings.download}
    model, data = checkpoints.load_model(path).to(settings.device), checkpoints.load_data(path, **fields)
    data.prepare_data()
    data.setup()
    model.check_images(data.image_shape)
    return model, data


def choice(path: Path) -> list[str]:
    """A remark on a checkpoint that was chosen by held-out images, which are those of an evaluation; else none."""
    name = checkpoints.chosen_by(checkpoints.load_checkpoint(path))
    if name is None or not {"val", "test"} & {*name.split("/")}:
        return []
    return [
        f"{path.name} was chosen by {name}, a measure of the held-out images that are evaluated here: what is measured "
        "of them is optimistic."
    ]


def samples(model: ImageModel, settings: Settings) -> Tensor:
    """Generated images (num_samples, C, H, W); for a given seed they do not depend on what else is measured."""
    return generation.draw(model, settings.num_samples, lambda i: settings.stream("samples", i), "samples")


def reference(data: ImageDataModule, settings: Settings) -> Reference:
    """Chooses the real images and tries the extractor on one of them, before anything is sampled.

    Raises:
        ValueError: If there are too few images, or the extractor is unavailable or does not accept them.
    """
    split = data.held_out_images if settings.split == "test" else data.train_images
    order = torch.randperm(len(split), generator=randomness.stream("cpu", settings.seed, "evaluate real"))
    real = split[order[: settings.num_samples]]
    sizes, scaled = fit_sizes(min(len(real), settings.num_samples), settings.sizes)
    extractor = features.extractor(settings.extractor, partial(named, own=data, download=data.download), data.download)
    extractor(real[:1].to(settings.device))
    return Reference(real, extractor, sizes, [scaled] if scaled else [])


def fidelity(fake: Tensor, reference: Reference, settings: Settings) -> Fidelity:
    """Distances of generated images (N, C, H, W) to real ones.

    Raises:
        ValueError: If the extractor's features have a wrong shape or are not finite.
    """
    real, extractor, sizes, scaled = reference
    x = extractor.of_real(real, fake.device, "features of real images")
    y = extractor(fake, "features of samples")
    names = extractor.distance_names
    scalars, lines, said = summarise(x, y, names, sizes, settings.stream("subsets"), settings.protocol)
    if settings.split == "train":  # only training images can be memorised
        scalars[names.mifid] = mifid(x, y).item()
    if extractor.head is not None:
        mean, deviation = inception_score(extractor.head(y).cpu())
        scalars |= {names.score: mean.item(), f"{names.score}_sd": deviation.item()}
    return Fidelity(scalars | {"real_images": len(real)}, lines, scaled + said)


def energies(model: DivergenceTriangle, data: ImageDataModule, settings: Settings) -> dict[str, Tensor]:
    """f_α of held-out images, the first, and of other kinds: :func:`thermoebm.callbacks.image_energies.energies_of`."""
    x = data.held_out_images[: settings.evidence_images].to(model.device).float() / LEVELS_PER_UNIT - 1
    return energies_of(model, x, settings.stream("energies"))


def chain_quality(model: ImageModel, data: ImageDataModule, settings: Settings) -> dict[str, Diagnosis]:
    """Short chains against long corrected ones, of eight held-out images, by density.

    Raises:
        ValueError: If the model has no chains.
    """
    if not isinstance(model, LatentEBM):
        raise ValueError(f"--chains compares the chains of a LatentEBM, and {type(model).__name__} has none.")
    x = data.held_out_images[:8].to(model.device).float() / LEVELS_PER_UNIT - 1
    return diagnose(model, x, lambda i: settings.stream("chain diagnostics", i), title="chain diagnostics")


def reconstructions(model: ImageModel, data: ImageDataModule, settings: Settings) -> Tensor:
    """A picture (3, H', W') of up to 40 held-out images, and below each row of them its reconstructions."""
    x = data.held_out_images[:40].to(model.device).float() / LEVELS_PER_UNIT - 1
    return reconstruction_grid(x, model.reconstruct(x, settings.stream("reconstruction grid")), columns=10)
