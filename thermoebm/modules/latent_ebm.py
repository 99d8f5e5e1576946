"""The latent variable model with an energy-based prior, and its training."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from thermoebm.densities import GaussianLikelihood, GaussianPrior, TiltedPrior
from thermoebm.modules.averaging import AveragedWeights
from thermoebm.modules.chains import Chains
from thermoebm.modules.finiteness import Policy, Refusals
from thermoebm.modules.fitting import Fitting, Network
from thermoebm.modules.held_out import HeldOut
from thermoebm.modules.persistent import Batch, PersistentChains, apart
from thermoebm.modules.sampling import ChainStart
from thermoebm.networks import Energy, Generator
from thermoebm.objectives import MaximumLikelihood, Objective, Output
from thermoebm.optim import DecayedAdam
from thermoebm.runtime.numbers import positive
from thermoebm.samplers import ULA, Kernel, check_differentiable
from thermoebm.schedules import PowerLaw, Schedule


class LatentEBM(HeldOut):
    """Latent-space energy-based prior model (Pang et al. 2020; report, section 2).

    z ~ p_α(z) ∝ exp(f_α(z)) π0(z) and x = g_β(z) + σl ε; both networks are trained by one objective.

    Args:
        energy: f_α, any module that maps latents (..., d) to (...). A network that has no ``latent_dim`` is given that
            of the other.
        generator: g_β, any module that maps latents (N, d) to images (N, C, H, W).
        objective: The objective to minimise; None: maximum likelihood.
        prior_sampler: Kernel of the prior chains, which are also the t = 0 rung of every ladder.
        posterior_sampler: Kernel of the power-posterior chains.
        energy_optimizer, generator_optimizer: Adam for each network.
        decay_interval: Learning rates decay once an ``epoch``, or at each ``step``, by the same factor over an epoch.
        prior_sigma: σ0.
        likelihood_sigma: σl.
        likelihood_constant: Constant of the likelihood in the logged loss, and nowhere else: ``gaussian``, that of the
            density, or ``logsumexp``, that of the report's code.
        chain_start: Posterior chains start at samples of π0 (``reference``, as in the report), at the final states
            of the batch's prior chains (``prior_chain``), or, as prior chains then do too, where the last visit to the
            image ended (``persistent``, in training steps and draws of its gradient:
            :class:`thermoebm.modules.persistent.PersistentChains`; whatever is measured otherwise starts at π0).
            ``persistent_prior``: prior chains go on so, and posterior chains start at π0.
        evidence_schedule: Temperatures at which the held-out evidence is measured, whatever the objective.
        temperature_chunk: Temperatures sampled side by side; ``auto``: see :class:`thermoebm.modules.chains.Chains`.
        compile: Compile the Langevin steps of training: ``on``, ``off``, ``graph`` (on CUDA) or ``auto`` (if it pays).
        average_decay: Rate r of an exponential average of the weights, which then samples, is validated, and is what a
            checkpoint is evaluated with (:class:`thermoebm.modules.averaging.AveragedWeights`); None: no average.
        on_not_finite: What follows a training step whose gradient is not finite and which is therefore not made:
            ``stop``, ``reject`` or ``rollback``; see :class:`thermoebm.modules.finiteness.Refusals`.
        pixel_noise: Add the noise σl ε of the report's equation 2 to generated images. Its code never does.
        seed: Seed of all noise that this module draws, combined with the process's rank.

    Raises:
        ValueError: If the networks do not fit, a standard deviation cannot be one or a chunk is below 1.
    """

    def __init__(
        self,
        energy: Energy | Network,  # the first is what the programs know by its short name
        generator: Generator | Network,
        objective: Objective | None = None,
        prior_sampler: Kernel | None = None,
        posterior_sampler: Kernel | None = None,
        energy_optimizer: DecayedAdam = DecayedAdam(2e-5, 1e-5),  # noqa: B008  (frozen)
        generator_optimizer: DecayedAdam = DecayedAdam(1e-4, 5e-5),  # noqa: B008  (frozen)
        decay_interval: Literal["epoch", "step"] = "epoch",
        prior_sigma: float = 1.0,
        likelihood_sigma: float = 0.3,
        likelihood_constant: Literal["gaussian", "logsumexp"] = "gaussian",
        chain_start: ChainStart = "reference",
        evidence_schedule: Schedule = PowerLaw(10, 6.0),  # noqa: B008  (frozen)
        temperature_chunk: Literal["auto"] | int = "auto",
        compile: Literal["auto", "on", "graph", "off"] = "auto",
        average_decay: float | None = None,
        on_not_finite: Policy = "stop",
        pixel_noise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        energy, generator = Fitting("LatentEBM").latents(energy, generator)
        if not (positive(prior_sigma) and positive(likelihood_sigma)):
            raise ValueError(
                f"LatentEBM: prior_sigma is {prior_sigma} and likelihood_sigma {likelihood_sigma}; "
                "both must be positive and finite in single precision."
            )
        if temperature_chunk != "auto" and temperature_chunk < 1:
            raise ValueError(f"LatentEBM: temperature_chunk is {temperature_chunk}; it must be auto or at least 1.")
        if isinstance(evidence_schedule, nn.Module):
            raise ValueError(
                f"LatentEBM: evidence_schedule is {evidence_schedule!r}, which training changes; give a fixed "
                "one, such as a PowerLaw, so that epochs can be compared."
            )
        self.energy = energy
        self.generator = generator
        self.objective = objective or MaximumLikelihood()
        self.objective_state = self.objective.state()
        self.prior_sampler = prior_sampler or ULA(step_size=0.16, num_steps=60)
        self.posterior_sampler = posterior_sampler or ULA(step_size=0.01, num_steps=20)
        self._check_samplers()
        states = {name: state for name, kernel in self._kernels().items() if (state := kernel.state()) is not None}
        self.sampler_states = nn.ModuleDict(states) if states else None
        self.optimizer_settings = ((energy, energy_optimizer), (generator, generator_optimizer))
        self.decay_interval = decay_interval
        self.chain_start = chain_start
        self.keyed = chain_start in ("persistent", "persistent_prior")
        self.evidence_schedule = evidence_schedule
        self.pixel_noise = pixel_noise
        self.seed = seed
        self.reference = GaussianPrior(prior_sigma)
        self.prior = TiltedPrior(energy, self.reference)
        self.likelihood = GaussianLikelihood(generator, likelihood_sigma, likelihood_constant)
        densities, samplers = (self.prior, self.likelihood), (self.prior_sampler, self.posterior_sampler)
        self.chains = Chains(
            energy, generator, *densities, *samplers, temperature_chunk, compile, on_not_finite == "reject"
        )
        self.refusals = Refusals(on_not_finite)
        self.persistent = PersistentChains()
        self.averaged = None if average_decay is None else AveragedWeights(self.weights(), average_decay)
        self.keys: Tensor | None = None  # of the images of this training step, from an ImageDataModule

    def _check_samplers(self) -> None:
        if self.prior_sampler.whole_ladder:
            raise ValueError("LatentEBM: prior_sampler exchanges temperatures, and the prior has one; give its kernel.")
        if self.objective.differentiates_chains():
            for kernel in self._kernels().values():
                check_differentiable(kernel)

    def _kernels(self) -> dict[str, Kernel]:
        return {"prior": self.prior_sampler, "posterior": self.posterior_sampler}

    def notes(self) -> list[str]:
        """What these settings mean, as far as a user may not expect it; each note in a few words."""
        notes = self.objective.notes()
        if self.posterior_sampler.whole_ladder and self.chain_start != "persistent":
            notes.append("fresh chains are too short to exchange temperatures: take chain_start persistent")
        return notes

    # What the model is to the rest of the package: thermoebm.modules.image_model

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.generator.image_shape

    def networks(self) -> dict[str, nn.Module]:
        return {"energy": self.energy, "generator": self.generator}

    def title(self) -> str:
        return type(self.objective).__name__

    def measures_in(self, step: int | None) -> bool:
        return self.objective.whole_ladder(step)

    def without_gradient(self) -> tuple[str, ...]:
        return self.objective.without_gradient()

    def check_batch(self, size: int) -> None:
        self.objective.check(size, self.generator.latent_dim)

    def image_flops(self) -> int:
        return self.chains.generator_flops

    def loss(self, batch: Tensor | Batch, rng: torch.Generator, step: int | None = None) -> Tensor:
        """The objective's loss on images (B, C, H, W), a scalar; all of its noise comes from the stream ``rng``.

        Given a step, it computes everything that this training step does, not only the parts that the gradient needs.
        Persistent chains of a batch with keys go on from their last states, which stay as they are.
        """
        images, keys = apart(batch)
        with self.persistent.visiting(keys if self.keyed else None):
            return self.output(images, rng, step).loss

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.keyed:
            loaded = self.trainer.train_dataloader if self.trainer.datamodule else None  # type: ignore[attr-defined]
            self.persistent.begin(getattr(loaded, "dataset", None), int(self.generator.latent_dim))

    def output(self, x: Tensor, rng: torch.Generator, step: int | None = None) -> Output:
        return self.objective(self, x, rng, step=step)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        self.chains.training_batch = self.chains.training_batch or len(batch)
        step = self.global_step
        self.chains.rates.clear()
        self.shares_step = True
        try:
            with self.persistent.visiting(self.keys if self.keyed else None, write=self.keyed):
                output = self.output(batch, self.stream("training", step), step)
        finally:
            self.shares_step = False
        self.descend(batch, output)
        # Mean over the epoch's steps that sampled a ladder; a value per step would be repeated at the others.
        for name, value in output.ladder.items():
            self.log(f"train/{name}", value, prog_bar=True, on_step=False, on_epoch=True, sync_dist=True)
        for name, value in self.chains.by_rung().items():
            self.log(f"train/chains/{name}", value, on_step=False, on_epoch=True, sync_dist=True)

    def after_step(self, output: Output, made: Tensor | None) -> None:
        """Changes what follows the networks: the objective's state, adapted step sizes, averaged weights."""
        self.objective.after_step(output)
        for name, kernel in self._kernels().items():
            kernel.after_step({k.removeprefix(f"{name}/"): v for k, v in self.chains.rates.items() if name in k})
        super().after_step(output, made)

    def teardown(self, stage: str) -> None:
        """Gives back the memory of recorded chains, which are of no use once the model has left its device."""
        self.chains.recorder.clear()
        self.persistent.to("cpu")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.keyed:
            checkpoint["persistent_chains"] = self.persistent.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the chains for a training that goes on; loading a model for anything else leaves them alone."""
        if self.keyed:
            self.persistent.restore(checkpoint.get("persistent_chains"))
