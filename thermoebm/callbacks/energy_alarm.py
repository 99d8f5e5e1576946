"""The alarm for an energy that runs away, and what is done then."""

import inspect
import math
from typing import Any, Literal, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn

from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.rollback import Snapshot
from thermoebm.callbacks.vitals import Vitals, slowed
from thermoebm.modules import ImageModel, LatentEBM, not_finite
from thermoebm.runtime.terminal import say
from thermoebm.runtime.way_back import way_back
from thermoebm.samplers import ULA, corrected_acceptance

_LEARN_SLOWER = "with a lower --model.energy_optimizer.learning_rate."
_REMEDY = (
    "with a smaller or a corrected step of the prior's chains (a lower --model.prior_sampler.step_size, or the class "
    f"MALA), and if that is not enough {_LEARN_SLOWER}"
)


class EnergyAlarm(OfKind):
    """Measures after each epoch whether the energy runs away from the reference prior, and acts if it does.

    It draws prior chains and logs ``prior/energy_tilt`` = E_{p_α}[f_α] - E_{π0}[f_α] (nats),
    ``prior/mean_square`` = |z|²/(d σ0²) (healthy about 1), ``prior/corrected_acceptance``, the mean probability with
    which a Metropolis-adjusted step from the ends of uncorrected chains would be accepted, and ``prior/rollbacks``, how
    often it went back so far. An epoch is healthy if the first two are within their limits, all parameters are finite,
    and the tilt is not negative: for exact chains it is KL(p_α‖π0) + KL(π0‖p_α) ≥ 0, so that one nat and four standard
    errors below zero prove that the chains no longer sample p_α. (Of exact chains at a tilt of 0, 3 epochs in 100,000
    would be.) After one that is not healthy,

        rollback   Networks, their averages, Adam's moments, adapted step sizes and persistent chains go back to the end
                   of the last good epoch, or to where this training began, and the energy's learning rate is
                   multiplied by ``factor`` from then on: after n rollbacks it is factor^n times its schedule's. Epochs,
                   steps, learning-rate schedules, the order of images and random streams go on, so that no noise comes
                   twice. After ``max_rollbacks`` of them, training ends as by ``stop``.
        stop       Training ends before a checkpoint is saved: last.ckpt is of the last healthy epoch.
        warn       Training goes on; it is told once, and again if the energy recovered in between.

    Energies run away after the step of the prior's chains has become too large for them. An acceptance below
    ``least_acceptance`` is told once, tens of epochs before there is a runaway, and changes nothing. A good epoch, to
    which a rollback leads, is a healthy one with more than that, if there ever was one.

    It comes before the callbacks that measure at an epoch's end, so that what they measure and what checkpoints keep is
    one state, and none of them meets numbers that are not finite. Since no ruined state is saved by them, a resumed
    training has the same state to go back to. One copy of what a checkpoint holds stays on the device.

    Args:
        on_runaway: What to do.
        max_rollbacks: Largest number of rollbacks, of a training and those that resume it.
        factor: Factor of the energy's learning rate at each rollback.
        count: Number of chains; None: the size of a training batch, for which the step is compiled.
        largest_tilt: Largest healthy tilt, in absolute value.
        largest_mean_square: Largest healthy mean square; its inverse is the smallest.
        least_acceptance: Least acceptance of a corrected step, between 0 and 1.

    Raises:
        ValueError: If a number is out of its range or a limit can never be kept.
        FloatingPointError: If training ends; the message names the measure, the checkpoint and the remedy.
    """

    ran_away = "The energy ran away"  # of a subclass, something else may

    def __init__(
        self,
        on_runaway: Literal["rollback", "stop", "warn"] = "rollback",
        max_rollbacks: int = 3,
        factor: float = 0.5,
        count: int | None = None,
        largest_tilt: float = 100.0,
        largest_mean_square: float = 4.0,
        least_acceptance: float = 0.6,
    ) -> None:
        if on_runaway not in ("rollback", "stop", "warn"):
            raise ValueError(f"EnergyAlarm: on_runaway is {on_runaway!r}; take rollback, stop or warn.")
        if max_rollbacks < 1 or not 0 < factor < 1:
            raise ValueError(
                f"EnergyAlarm: max_rollbacks {max_rollbacks} must be at least 1 and factor {factor} between 0 and 1."
            )
        limits = 0 < largest_tilt < math.inf and 1 < largest_mean_square < math.inf
        if not ((count is None or count >= 2) and limits):
            raise ValueError(
                f"EnergyAlarm: count {count} must be at least 2, largest_tilt {largest_tilt} positive and finite, and "
                f"largest_mean_square {largest_mean_square} above 1 and finite."
            )
        if not 0 <= least_acceptance <= 1:
            raise ValueError(f"EnergyAlarm: least_acceptance is {least_acceptance}; it must lie between 0 and 1.")
        self.on_runaway = on_runaway
        self.max_rollbacks = max_rollbacks
        self.factor = factor
        self.count = count
        self.largest_tilt = largest_tilt
        self.largest_mean_square = largest_mean_square
        self.least_acceptance = least_acceptance
        self.rollbacks = 0
        self.rolled_back = False  # in the epoch that ends now
        self._healthy_epoch: int | None = None  # the last one; None: there is none yet
        self._snapshot: Snapshot | None = None
        self._trusted = False  # whether the acceptance was ever large enough
        self._told = False
        self._told_of_steps = False

    @classmethod
    def like(cls, alarm: "EnergyAlarm") -> Self:
        """An alarm of this kind with the settings of another one."""
        settings = inspect.signature(EnergyAlarm).parameters
        return cls(**{name: getattr(alarm, name) for name in settings})

    # What is measured, and when it is a runaway

    def fault(self, vitals: Vitals) -> str | None:
        """The measures that are out of their limits, in words; None: the energy is healthy. NaN is out of limits."""
        tilt, square, limit = vitals.tilt, vitals.mean_square, self.largest_mean_square
        faults = []
        if vitals.broken:
            faults.append("parameters are not finite")
        if tilt < -max(1.0, 4 * vitals.tilt_error):
            faults.append(
                f"E_prior[f] - E_reference[f] is {tilt:.3g} ± {vitals.tilt_error:.1g} nats, which is never negative "
                "for exact chains"
            )
        elif not abs(tilt) <= self.largest_tilt:
            faults.append(f"E_prior[f] - E_reference[f] is {tilt:.3g} nats (limit ±{self.largest_tilt:g})")
        if not 1 / limit <= square <= limit:
            faults.append(f"|z|²/(d σ0²) of the prior chains is {square:.3g} (limits {1 / limit:.3g} and {limit:g})")
        return " and ".join(faults) or None

    def measure(self, trainer: pl.Trainer, model: ImageModel) -> Vitals:
        """Draws the chains; all processes take part, each with its own."""
        assert isinstance(model, LatentEBM)
        rng = model.stream("energy alarm")
        count = self.count or model.chains.training_batch or 75
        with torch.no_grad():
            reference = model.sample_reference((count,), rng)
            z = model.sample_prior(count, rng)
            f, f_reference = model.prior.tilt(z), model.prior.tilt(reference)
            tilt, error = f.mean() - f_reference.mean(), ((f.var() + f_reference.var()) / count).sqrt()
            mean_square = z.square().mean() / model.reference.sigma**2
            acceptance = tilt.new_ones(())
            if isinstance(model.prior_sampler, ULA):
                acceptance = corrected_acceptance(model.prior, z, model.prior_sampler.step_size, rng).mean().to(tilt)
        broken = tilt.new_tensor(float(bool(not_finite(model))))
        mine = torch.stack([tilt, error, mean_square, broken, acceptance])
        return Vitals(*trainer.strategy.reduce(mine, reduce_op="mean").tolist())

    def scalars(self, vitals: Vitals) -> dict[str, float]:
        """What is logged of them."""
        return {
            "prior/energy_tilt": vitals.tilt,
            "prior/mean_square": vitals.mean_square,
            "prior/corrected_acceptance": vitals.acceptance,
            "prior/rollbacks": float(self.rollbacks),
        }

    def remedy(self, model: ImageModel) -> str:
        """What a training that is started again should have."""
        return _REMEDY if isinstance(model, LatentEBM) and isinstance(model.prior_sampler, ULA) else _LEARN_SLOWER

    # What is done

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._told = self.rolled_back = False
        if self.on_runaway == "rollback":
            self._snapshot = Snapshot(trainer, pl_module)  # of fresh or of loaded weights
            if self.rollbacks:  # in the training that is resumed
                scheduler: Any = pl_module.lr_schedulers()
                assert isinstance(pl_module, ImageModel)
                names, done = slowed(pl_module), f"{self.rollbacks} of {self.max_rollbacks}"
                scale, s = scheduler.group(pl_module.get_submodule(names[0]))["scale"], "s" * (len(names) == 1)
                told = f"the {' and the '.join(names)} learn{s} at {scale:.3g} times the rates of its settings"
                say(f"After {done} rollbacks, {told}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._snapshot = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rolled_back = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Goes back from a step that was not finite, where the model's ``on_not_finite`` says so."""
        assert isinstance(pl_module, ImageModel)
        if fault := pl_module.refusals.take():
            self._act(trainer, pl_module, fault, tuple(pl_module.networks()))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ImageModel)
        vitals = self.measure(trainer, pl_module)
        fault = self.fault(vitals)
        if fault is None:
            self._told = False
            good = vitals.acceptance >= self.least_acceptance
            self._trusted = self._trusted or good
            if not good:
                self._tell_of_steps(trainer, vitals.acceptance)
            if good or not self._trusted:
                self._healthy_epoch = trainer.current_epoch
                if self.on_runaway == "rollback":
                    self._snapshot = Snapshot(trainer, pl_module)
        else:
            told = f"{self.ran_away} in epoch {trainer.current_epoch}: {fault}"
            self._act(trainer, pl_module, told, slowed(pl_module))
        pl_module.log_dict(self.scalars(vitals), sync_dist=True)

    def _tell_of_steps(self, trainer: pl.Trainer, acceptance: float) -> None:
        if not self._told_of_steps:
            self._told_of_steps = True
            rank_zero_warn(
                f"The step of the prior's chains is too large for the energy since epoch {trainer.current_epoch}: a "
                f"corrected step would be accepted with probability {acceptance:.2g} (least "
                f"{self.least_acceptance:g}). Energies run away some time after that; start again {_REMEDY}"
            )

    def _act(self, trainer: pl.Trainer, model: ImageModel, told: str, names: tuple[str, ...]) -> None:
        remedy = self.remedy(model)
        if self.on_runaway == "rollback" and self.rollbacks < self.max_rollbacks:
            self._roll_back(trainer, model, told, names)
        elif self.on_runaway != "warn":
            limit = (
                f", after {self.rollbacks} rollback{'s' * (self.rollbacks > 1)}"
                if self.on_runaway == "rollback"
                else ""
            )
            raise FloatingPointError(f"{told}{limit}. {way_back(trainer)} {remedy}")
        elif not self._told:
            self._told = True
            rank_zero_warn(f"{told}; training goes on. Start again {remedy}")

    def _roll_back(self, trainer: pl.Trainer, model: ImageModel, told: str, names: tuple[str, ...]) -> None:
        assert self._snapshot is not None
        self._snapshot.restore(trainer, model)
        scheduler: Any = model.lr_schedulers()
        for name in names:
            scheduler.slow_down(getattr(model, name), self.factor)
        self.rollbacks, self.rolled_back = self.rollbacks + 1, True
        rates = " and ".join(f"{scheduler.group(getattr(model, name))['lr']:.3g}" for name in names)
        epoch = self._healthy_epoch
        where = "where this training began" if epoch is None else f"the end of epoch {epoch}"
        rank_zero_warn(
            f"{told}; training goes on from {where} with {self.factor:g} times the learning rate of the "
            f"{' and the '.join(names)}, now {rates} (rollback {self.rollbacks} of {self.max_rollbacks})."
        )

    def state_dict(self) -> dict[str, Any]:
        return {"rollbacks": self.rollbacks, "healthy_epoch": self._healthy_epoch, "trusted": self._trusted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rollbacks, self._healthy_epoch = state_dict["rollbacks"], state_dict["healthy_epoch"]
        self._trusted = state_dict.get("trusted", False)
