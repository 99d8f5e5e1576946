"""Training steps that meet values that are not finite: found without waiting for the device, told with their cause."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from thermoebm.modules.chains import Chains
from thermoebm.objectives import Output
from thermoebm.optim import GuardedAdam
from thermoebm.runtime.way_back import way_back

Policy = Literal["stop", "reject", "rollback"]
Reduce = Callable[[Tensor], Tensor]
_STEP_SIZE = "a smaller --model.{}_sampler.step_size"
_REMEDIES = {f"{which} chains": _STEP_SIZE.format(which) for which in ("prior", "posterior")} | {
    "images": "other images"
}


class Step(NamedTuple):
    """What a training step computed, on its device.

    Args:
        step, epoch: Its numbers.
        images: The batch (B, C, H, W).
        temperatures: (T,) of its posterior chains; None: it had none.
        rates: Of its chains: :attr:`thermoebm.modules.chains.Chains.rates`.
        output: Of the objective.
        norms: Of the networks' gradients, in their order; None: a gradient scaler took them.
    """

    step: int
    epoch: int
    images: Tensor
    temperatures: Tensor | None
    rates: dict[str, Tensor]
    output: Output
    norms: Tensor | None


class _Found(NamedTuple):
    """One kind of value: how early it is computed, what it is called, how many are not finite and of how many."""

    stage: int
    name: str
    broken: Tensor
    total: int


class _Lost(NamedTuple):
    """Chains whose ends were not finite, for each temperature (T,), of ``total`` each."""

    temperatures: Tensor
    broken: Tensor
    total: int


class Refusals:
    """What becomes of a training step whose gradient is not finite. The optimiser never makes it; then

        stop       training ends;
        reject     training goes on. Chains with an end that is not finite are replaced by their starts, here and
                   wherever else chains are run, so that most of such steps can be made. Training ends after an epoch in
                   which none could;
        rollback   :class:`thermoebm.callbacks.EnergyAlarm` goes back to the last good epoch, and all networks learn
                   more slowly.

    Whether a step was made is read from the device after the next one was launched; on a CPU, at once. Chains that were
    lost are counted by temperature and told after each epoch that had some, whatever the policy: those of a rung whose
    samples are only measured stop nothing. All processes decide alike, since their gradients are averaged.

    Args:
        policy: One of them.
        of: The name of the model's class.
        policies: Those that the model has.

    Raises:
        ValueError: If the model has no such policy.
        FloatingPointError: If training ends; the message names what was not finite first, the checkpoint, the remedy.
    """

    def __init__(self, policy: Policy, of: str = "LatentEBM", policies: tuple[Policy, ...] = get_args(Policy)) -> None:
        if policy not in policies:
            raise ValueError(f"{of}: on_not_finite is {policy!r}; take {', '.join(policies)}.")
        self.policy = policy
        self._of = of
        self._others = [other for other in policies if other not in ("stop", policy)]
        self._fault: str | None = None
        self._noted: tuple[Step, Tensor, Any] | None = None
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._lost: dict[tuple[str, int], _Lost] = {}
        self._steps = 0
        self._refused: Tensor | int = 0

    def begin(self, trainer: Any) -> None:
        """Refuses to roll back where nothing would, by a ValueError."""
        going_back = any(getattr(callback, "on_runaway", "") == "rollback" for callback in trainer.callbacks)
        if self.policy == "rollback" and not going_back:
            raise ValueError(
                f"{self._of}: on_not_finite is rollback, and no EnergyAlarm with on_runaway rollback would go back; "
                f"add one, or take {' or '.join(['stop', *self._others])}."
            )
        self._noted = self._fault = None
        self._begin_epoch()

    def note(self, model: Any, images: Tensor, output: Output, adam: GuardedAdam) -> None:
        """Takes notice of a model's step, and acts on the last one of which it is known whether it was made.

        Args:
            model: The :class:`thermoebm.modules.image_model.ImageModel`, after the step.
            images: The batch (B, C, H, W).
            output: Of the objective.
            adam: The optimiser after its step.
        """
        chains: Chains | None = getattr(model, "chains", None)
        rates, temperatures = ({}, None) if chains is None else (dict(chains.rates), chains.temperatures)
        self._count(rates, temperatures, len(images))
        if adam.made is None:
            return
        refused = ~adam.made
        self._steps, self._refused = self._steps + 1, self._refused + refused
        output = output._replace(loss=output.loss.detach())
        counters = model.global_step - 1, model.current_epoch
        step = Step(*counters, images, temperatures, rates, output, adam.norms)
        previous, self._noted = self._noted, (step, *_copied(refused))
        if previous is not None:
            self._judge(model, *previous)
        if self._noted[2] is None or model.trainer.is_last_batch:
            self._settle(model)

    def end_epoch(self, model: Any) -> None:
        """Settles the last step and tells of the epoch, before anything is measured or saved."""
        self._settle(model)
        reduce, epoch = _reduce(model), model.current_epoch
        found = [item for (which, _), lost in self._lost.items() for item in _chains(which, lost)]
        told = _told(found, reduce)
        steps, refused = self._steps, int(self._refused)
        self._begin_epoch()
        made = f"; {refused} of {steps} steps were not made" if refused else ""
        if refused and refused == steps:
            raise FloatingPointError(
                f"None of the {steps} steps of epoch {epoch} was made, since no gradient was finite"
                f"{': first ' * bool(told)}{told}. {way_back(model.trainer)} with lower learning rates."
            )
        if told:
            done = " and were replaced by their starts" if self.policy == "reject" else ""
            rank_zero_warn(f"In epoch {epoch} {told} ended in values that are not finite{done}{made}.")
        elif refused:
            rank_zero_warn(f"In epoch {epoch} {refused} of {steps} steps were not made: no gradient was finite.")

    def take(self) -> str | None:
        """The fault for which training is to go back, in a sentence without its end; it is told once."""
        fault, self._fault = self._fault, None
        return fault

    def _count(self, rates: dict[str, Tensor], temperatures: Tensor | None, images: int) -> None:
        for which, lost in _lost(rates, temperatures, images).items():
            known = self._lost.get((which, len(lost.broken)))
            if known is not None:
                lost = _Lost(lost.temperatures, known.broken + lost.broken, known.total + lost.total)
            self._lost[which, len(lost.broken)] = lost

    def _settle(self, model: Any) -> None:
        noted, self._noted = self._noted, None
        if noted is not None:
            self._judge(model, *noted)

    def _judge(self, model: Any, step: Step, refused: Tensor, copied: Any) -> None:
        if copied is not None:
            copied.synchronize()
        if not refused or self.policy == "reject":
            return
        found = list(_found(model, step))
        first = _told(found, _reduce(model))
        told = f"Training met values that are not finite in step {step.step} of epoch {step.epoch}: first {first}"
        if self.policy == "rollback":
            self._fault = told
            return
        named = [remedy for name, remedy in _REMEDIES.items() if name in first]
        others = f", or with --model.on_not_finite {' or '.join(self._others)}" if self._others else ""
        raise FloatingPointError(
            f"{told}. The step was not made. {way_back(model.trainer)} with "
            f"{' and '.join(named) or 'lower learning rates'}{others}."
        )


def not_finite(model: Any) -> list[str]:
    """The names of the networks with parameters or buffers that are not finite."""
    return [n for n, net in model.named_children() if not all(v.isfinite().all() for v in net.state_dict().values())]


def _copied(refused: Tensor) -> tuple[Tensor, Any]:
    """The value on the host, and the event after which it is there; without one it is there at once."""
    if refused.device.type != "cuda":
        return refused, None
    there = refused.to("cpu", non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return there, event


def _found(model: Any, step: Step) -> Iterator[_Found]:
    """What may not be finite in a step, the earliest first; the same kinds on all processes."""

    def scalar(stage: int, name: str, values: Tensor) -> _Found:
        return _Found(stage, name, (~values.isfinite()).any(), 1)

    device, images = step.images.device, len(step.images)
    broken = not_finite(model)
    for name, _ in model.named_children():
        yield _Found(0, f"the weights of the {name}", torch.tensor(float(name in broken), device=device), 1)
    yield _Found(0, "images", (~step.images.flatten(1).isfinite().all(1)).sum(), images)
    for which, lost in _lost(step.rates, step.temperatures, images).items():
        yield from _chains(which, lost)
    output = step.output
    for name, value in {**output.diagnostics, **output.ladder}.items():
        yield scalar(2, name, value)
    yield scalar(3, "the loss", output.loss)
    if step.norms is not None:
        for name, norm in zip(model.networks(), step.norms.square(), strict=True):
            yield scalar(4, f"the gradient of the {name}", norm)


def _lost(rates: dict[str, Tensor], temperatures: Tensor | None, images: int) -> dict[str, _Lost]:
    """The chains of a step that were lost, ``prior`` ones as those of one temperature."""
    shares = {name.partition("/")[0]: share.reshape(-1) for name, share in rates.items() if name.endswith("/lost")}
    return {
        which: _Lost(share if which == "prior" or temperatures is None else temperatures, share * images, images)
        for which, share in shares.items()
    }


def _chains(which: str, lost: _Lost) -> Iterator[_Found]:
    for t, count in zip(lost.temperatures.tolist(), lost.broken, strict=True):
        at = f" at t = {t:.3g}" if which == "posterior" else ""
        yield _Found(1, f"{which} chains{at}", count, lost.total)


def _reduce(model: Any) -> Reduce:
    def total(counts: Tensor) -> Tensor:
        summed: Tensor = model.trainer.strategy.reduce(counts, reduce_op="sum")
        return summed

    return total


def _told(found: list[_Found], reduce: Reduce) -> str:
    """The values of the earliest stage that are not finite, in words; empty if there are none."""
    if not found:
        return ""
    totals = [torch.tensor(float(item.total)) for item in found]
    counts = torch.stack([item.broken.float() for item in found])
    counts, sizes = reduce(torch.stack([counts, torch.stack(totals).to(counts)])).tolist()
    named = [(item, round(n), round(of)) for item, n, of in zip(found, counts, sizes, strict=True) if n > 0]
    stage = min((item.stage for item, _, _ in named), default=0)
    parts = [
        f"{n} of {of} {item.name}" if item.total > 1 else item.name for item, n, of in named if item.stage == stage
    ]
    return " and ".join(parts)
