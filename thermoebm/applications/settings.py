"""The settings of an evaluation."""

from dataclasses import dataclass
from typing import Literal

import torch

from thermoebm.metrics.extrapolation import Protocol
from thermoebm.modules.annealed import Annealing
from thermoebm.runtime import randomness

#: The evidence that is measured.
Kind = Literal["none", "short", "annealed"]


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation.

    Args:
        num_samples: Number of generated images, and maximum number of real images they are compared with.
        extractor: Name of the features; see :mod:`thermoebm.metrics.features`.
        split: Real images that samples are compared with: the held-out (``test``) or the training images (``train``).
        sizes: Sample sizes of the extrapolation; None: the report's ten, scaled down where images are fewer.
        protocol: How subsets are drawn.
        evidence: Evidence that is measured: ``annealed``, with its error, beside that of ``short`` chains, or of the
            encoder's draws where there is one; only the latter; or ``none``.
        annealing: How the annealed evidence is measured.
        evidence_images: Maximum number of held-out images whose evidence, reconstructions and energies are measured.
        seed: Seed of all noise and subsets.
        device: Device of the computation.
        gradient_variance: Measure the variance of the learning gradient on held-out images too.
        chains: Compare the short chains with long corrected ones too.
        root: Folder or file of the real images; None: the same as in training.
        download: Whether an absent data set, or absent weights of the extractor, may be downloaded; None: as the config
            of the checkpoint says.
    """

    num_samples: int = 4500
    extractor: str = "classifier"
    split: Literal["test", "train"] = "test"
    sizes: tuple[int, ...] | None = None
    protocol: Protocol = "nested"
    evidence: Kind = "annealed"
    annealing: Annealing = Annealing()  # noqa: RUF009  (frozen)
    evidence_images: int = 300
    seed: int = 0
    device: str = "cpu"
    gradient_variance: bool = False
    chains: bool = False
    root: str | None = None
    download: bool | None = None

    def stream(self, name: str, *counters: int) -> torch.Generator:
        """The random stream for one named use."""
        return randomness.stream(self.device, self.seed, f"evaluate {name}", *counters)
