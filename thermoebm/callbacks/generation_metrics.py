"""Distances of generated images to real ones during training."""

from collections.abc import Sequence
from functools import partial

import lightning.pytorch as pl
import torch
from torch import Tensor

from thermoebm.callbacks import splits as split_names
from thermoebm.callbacks.first_process import log_of_first
from thermoebm.callbacks.pictures import is_due
from thermoebm.callbacks.splits import SplitName
from thermoebm.data import ImageDataModule, named
from thermoebm.metrics import features
from thermoebm.metrics.extrapolation import Protocol, fit_sizes
from thermoebm.metrics.features import Extractor
from thermoebm.metrics.kernels import KernelName, kernel
from thermoebm.metrics.summary import summarise
from thermoebm.modules import ImageModel, generation
from thermoebm.runtime import randomness


class GenerationMetrics(pl.Callback):
    """Logs distances of samples to real images at every n-th epoch and the last, on all images and extrapolated.

    Examples are ``fidelity/test/FD[classifier:digits]_inf`` and its standard error, ``..._inf_se``; for all names see
    :mod:`thermoebm.metrics.summary`. Samples use the same noise each time and are shared by both splits, so curves
    change only by what was learned. Training uses none of this noise and is the same with and without this callback.

    Args:
        every_n_epochs: Interval; 0: never.
        num_samples: Number of generated images, and maximum number of real images they are compared with.
        sizes: Sample sizes of the extrapolation; None: the report's ten, scaled down where images are fewer.
        extractor: Name of the features; see :mod:`thermoebm.metrics.features`.
        splits: Real images that samples are compared with: the training images (``train``), the held-out images
            (``test``) or both. Both computes distances twice and draws samples once.
        protocol: How subsets are drawn.
        kernels: Kernels of the kernel distances: ``poly``, that of KID, and ``rbf``, that of the report's code.

    Raises:
        ValueError: If a number is out of range, or a kernel or split unknown.
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_samples: int = 4500,
        sizes: list[int] | None = None,
        extractor: str = "classifier",
        splits: Sequence[SplitName] = ("train",),
        protocol: Protocol = "nested",
        kernels: Sequence[KernelName] = ("poly", "rbf"),
    ) -> None:
        if every_n_epochs < 0 or num_samples < 1:
            raise ValueError(
                f"GenerationMetrics: every_n_epochs is {every_n_epochs} and num_samples {num_samples}; "
                "they must be at least 0 and 1."
            )
        for name in kernels:
            kernel(name)
        self.every_n_epochs = every_n_epochs
        self.num_samples = num_samples
        self.wanted_sizes = sizes
        self.extractor_name = extractor
        self.splits = split_names.checked("GenerationMetrics", splits)
        self.protocol = protocol
        self.kernels = tuple(kernels)
        self._extractor: Extractor | None = None
        self._real: dict[SplitName, tuple[Tensor, list[int]]] = {}  # images uint8 (N, C, H, W), and sizes of subsets
        self._remarked = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.every_n_epochs:
            return
        data = split_names.images_module("GenerationMetrics", trainer.datamodule)  # type: ignore[attr-defined]
        if trainer.is_global_zero and self._extractor is None:
            self.prepare(data)

    def prepare(self, data: ImageDataModule) -> None:
        """Chooses the real images and builds the extractor, before training, so that faults are reported early.

        Raises:
            ValueError: If there are too few images, or the extractor is unavailable or does not accept them.
        """
        for name in self.splits:
            split = data.held_out_images if name == "test" else data.train_images
            order = torch.randperm(len(split), generator=randomness.stream("cpu", 0, "generation metrics"))
            real = split[order[: self.num_samples]]
            sizes, scaled = fit_sizes(min(len(real), self.num_samples), self.wanted_sizes)
            if scaled:
                print(f"GenerationMetrics, {name}: {scaled}", flush=True)
            self._real[name] = real, sizes
        extractor = features.extractor(
            self.extractor_name, partial(named, own=data, download=data.download), data.download
        )
        extractor(data.train_images[:1])
        self._extractor = extractor

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not is_due(trainer, self.every_n_epochs):
            return
        assert isinstance(pl_module, ImageModel)
        log_of_first(trainer, pl_module, "fidelity", lambda: self._measure(pl_module))

    def _measure(self, model: ImageModel) -> dict[str, float]:
        extractor = self._extractor
        assert extractor is not None
        with model.averaged_weights():
            fake = generation.draw(
                model, self.num_samples, lambda i: model.stream("generation metrics", 1, i), "samples"
            )
        y = extractor(fake, "features of samples")
        measured: dict[str, float] = {}
        for split, (images, sizes) in self._real.items():
            scalars, _, remarks = summarise(
                extractor.of_real(images, fake.device, "features of real images"),
                y,
                extractor.distance_names,
                sizes,
                model.stream("generation metrics", 2),
                self.protocol,
                self.kernels,
            )
            for remark in [] if self._remarked else remarks:
                print(f"GenerationMetrics, {split}: {remark}", flush=True)
            measured |= {f"{split}/{name}": value for name, value in scalars.items()}
        self._remarked = True
        return measured
