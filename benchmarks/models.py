"""The models that are measured."""

from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.objectives import MaximumLikelihood, Objective, ThermodynamicIntegration
from thermoebm.objectives.thermodynamic import Estimator
from thermoebm.samplers import ULA
from thermoebm.schedules import PowerLaw

BATCH = 75
SCHEDULE = PowerLaw(10, 6.0)  # eleven temperatures; the first of them, t = 0, is the prior chain's

OBJECTIVES = ("MaximumLikelihood", *get_args(Estimator))


@dataclass(frozen=True)
class Networks:
    """Sizes of both networks."""

    latent_dim: int
    image_shape: tuple[int, int, int]
    features: int


NETWORKS = {
    "digits": Networks(32, (1, 8, 8), 8),
    "cifar10 features 16": Networks(100, (3, 32, 32), 16),
    "cifar10 features 32": Networks(100, (3, 32, 32), 32),
    "celeba features 16": Networks(80, (3, 64, 64), 16),
    "cifar10 features 64": Networks(100, (3, 32, 32), 64),
    "celeba features 64": Networks(80, (3, 64, 64), 64),
}


class GivenNoise(LatentEBM):
    """A model that draws the noise of each shape once, so that chains are reproducible and not timed with it."""

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        super().__init__(*arguments, **fields)
        self.drawn: dict[tuple[int, ...], Tensor] = {}

    def _normal(self, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        if tuple(shape) not in self.drawn:
            self.drawn[tuple(shape)] = super()._normal(shape, rng)
        return self.drawn[tuple(shape)]


def build(
    networks: Networks,
    device: torch.device,
    *,
    kind: type[LatentEBM] = LatentEBM,
    objective: Objective | None = None,
    batch: int = BATCH,
    **fields: Any,
) -> LatentEBM:
    """An untrained model, with the report's chains unless ``fields`` has others; the weights do not affect the cost."""
    torch.manual_seed(0)
    model = kind(
        EnergyMLP(networks.latent_dim),
        ConvGenerator(networks.latent_dim, networks.image_shape, networks.features),
        objective,
        **({"prior_sampler": ULA(0.16, 60), "posterior_sampler": ULA(0.01, 20)} | fields),
    ).to(device)
    model.chains.training_batch = batch  # compiled steps are for this batch size
    return model


def images(networks: Networks, device: torch.device, batch: int = BATCH) -> Tensor:
    """Images (B, C, H, W) of noise in [-1, 1]."""
    rng = torch.Generator().manual_seed(0)
    return (torch.rand(batch, *networks.image_shape, generator=rng) * 2 - 1).to(device)


def objective(name: str, temperatures: int) -> Objective:
    """Maximum likelihood, or thermodynamic integration with one of its estimators."""
    if name == "MaximumLikelihood":
        return MaximumLikelihood()
    estimator: Any = name
    return ThermodynamicIntegration(estimator, PowerLaw(temperatures, SCHEDULE.power))
