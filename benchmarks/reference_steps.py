"""The training steps that :mod:`benchmarks.reference` compares with the report's code: ours and a plain loop."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.models import Networks, images
from benchmarks.peer import Peer
from thermoebm import evidence, optim
from thermoebm.cli.train import CLI
from thermoebm.modules import LatentEBM
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.study.planning.compose import compose

CONFIGS = Path(__file__).parents[1] / "configs"
OVERLAYS = {"maximum likelihood": ["mle.yaml"], "TI": []}


class Sizes(NamedTuple):
    """What is smaller here than in the report: features 64 and 40 steps with CIFAR-10, batches of 75."""

    features: int
    steps: int
    batch: int


class Counts(NamedTuple):
    """Steps of the chains of one image, and images that the generator makes, in one training step."""

    posterior_steps: int
    prior_steps: int
    generator_passes: int


def build(kind: str, sizes: Sizes) -> LatentEBM:
    """The model of configs/cifar10.yaml under configs/report_code.yaml, narrower; weights as at the start of a run."""
    files = [CONFIGS / name for name in ("cifar10.yaml", "report_code.yaml", *OVERLAYS[kind])]
    smaller = {
        "model.generator.features": sizes.features,
        "model.posterior_sampler.num_steps": sizes.steps,
        "data.batch_size": sizes.batch,
    }
    model = compose(CLI, files, smaller, 0).model
    assert isinstance(model, LatentEBM)
    torch.manual_seed(0)
    for layer in model.modules():  # a composed model has no values that mean anything
        reset: Any = getattr(layer, "reset_parameters", None)
        if reset is not None:
            reset()
    model.chains.training_batch = sizes.batch
    return model


class Ours:
    """Our own step, as train.py makes it, without logging."""

    def __init__(self, kind: str, sizes: Sizes) -> None:
        self.model = build(kind, sizes)
        networks = Networks(self.model.energy.latent_dim, self.model.image_shape, sizes.features)
        self.x = images(networks, torch.device("cpu"), sizes.batch)
        self.rng = self.model.stream("benchmark")
        self.optimizer: torch.optim.Optimizer = optim.build(self.model.optimizer_settings)[0]

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def loss(self) -> Tensor:
        return self.model.loss(self.x, self.rng, step=0)

    def counts(self) -> Counts:
        """Counted in a step that is not compiled, from the noise that the chains are given."""
        model, found = self.model, {"prior": 0, "posterior": 0, "passes": 0}

        def chain(name: str, run: Callable[..., Tensor], noise_at: int) -> Callable[..., Tensor]:
            def counted(*arguments: Any, **fields: Any) -> Tensor:
                found[name] += math.prod(arguments[noise_at].shape[:-2])
                return run(*arguments, **fields)

            return counted

        def made(_: Any, inputs: Any, image: Tensor) -> None:
            found["passes"] += len(image)

        compiled, model.chains.compile = model.chains.compile, "off"
        hook = model.generator.register_forward_hook(made)
        model.chains.run_prior = chain("prior", model.chains.run_prior, 1)  # type: ignore[method-assign]
        model.chains.run_posterior = chain("posterior", model.chains.run_posterior, 3)  # type: ignore[method-assign]
        try:
            self.loss()
        finally:
            model.chains.compile = compiled
            hook.remove()
            del model.chains.run_prior, model.chains.run_posterior
        return Counts(found["posterior"], found["prior"], found["passes"])


class Plain(Ours):
    """The same step as a plain loop: one temperature after another, eager gradients, torch's own layers and Adam."""

    def __init__(self, kind: str, sizes: Sizes) -> None:
        super().__init__(kind, sizes)
        self.peer = _Peer(self.model)
        self.optimizer = torch.optim.Adam(
            [
                {"params": network.parameters(), "lr": adam.learning_rate, "betas": adam.betas}
                for network, adam in self.model.optimizer_settings
            ]
        )

    def loss(self) -> Tensor:
        model, objective, x = self.model, self.model.objective, self.x
        ladder = objective.schedule.temperatures() if isinstance(objective, ThermodynamicIntegration) else None
        t = torch.ones(1) if ladder is None else ladder[1:]
        start = torch.randn(1 + len(t), len(x), self.peer.latent_dim)
        noise = torch.randn(model.prior_sampler.num_steps, *start.shape[1:])
        z_prior = self.peer.prior(start[0], noise)
        z = self.peer.posterior(x, t, start[1:], torch.randn(model.posterior_sampler.num_steps, *start[1:].shape))
        if ladder is None:
            contrast = self.peer.energy(z[0]).sum(-1).mean() - self.peer.energy(z_prior).sum(-1).mean()
            return -self._log_likelihood(z[0]) - contrast
        rungs = torch.stack([self._log_likelihood(latents) for latents in (z_prior, *z)])
        return -evidence.trapezium(ladder, rungs)

    def _log_likelihood(self, z: Tensor) -> Tensor:
        squared_error = (self.x - self.peer.generator(z[:, :, None, None])).square().sum((1, 2, 3))
        return -0.5 * squared_error.mean() / self.model.likelihood.sigma**2


class _Peer(Peer):
    """With an energy of several outputs, which are added."""

    def _log_prior(self, z: Tensor) -> Tensor:
        return self.energy(z).sum(-1) - 0.5 * z.square().sum(-1) / self.prior_sigma**2
