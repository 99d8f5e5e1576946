"""Adam with the learning-rate decay of the report's table 3."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from thermoebm.runtime.numbers import positive


@dataclass(frozen=True)
class DecayedAdam:
    """Settings of Adam for one network; the learning rate decays exponentially to a floor.

    After e epochs it is max(learning_rate · decay_rate^max(e - decay_begin, 0), final_learning_rate).

    Args:
        learning_rate: Initial learning rate.
        final_learning_rate: Floor of the decay.
        betas: Decay rates of Adam's moments.
        decay_rate: Factor of the learning rate for each epoch.
        decay_begin: Epoch after which the decay begins.
        weight_decay: w of the decoupled decay θ ← (1 - η w) θ before each step, at learning rate η (Loshchilov & Hutter
            2019).
        clip_norm: The network's gradient is scaled down to this Euclidean norm where it is larger; None: never.

    Raises:
        ValueError: If a rate is out of its range.
    """

    learning_rate: float = 1e-4
    final_learning_rate: float = 5e-5
    betas: tuple[float, float] = (0.5, 0.999)
    decay_rate: float = 0.975
    decay_begin: int = 1
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if not (positive(self.learning_rate) and self.learning_rate >= self.final_learning_rate >= 0):
            raise ValueError(
                f"DecayedAdam: learning_rate {self.learning_rate} must be positive and finite in single precision, and "
                f"at least final_learning_rate {self.final_learning_rate}, which must not be negative."
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"DecayedAdam: betas {self.betas} must lie in [0, 1).")
        if not (0 < self.decay_rate <= 1 and 0 <= self.decay_begin < math.inf):
            raise ValueError(
                f"DecayedAdam: decay_rate {self.decay_rate} must lie in (0, 1] and decay_begin {self.decay_begin} "
                "must be finite and not negative."
            )
        if not (0 <= self.weight_decay < math.inf and (self.clip_norm is None or 0 < self.clip_norm < math.inf)):
            raise ValueError(
                f"DecayedAdam: weight_decay {self.weight_decay} must be finite and not negative, clip_norm "
                f"{self.clip_norm} positive and finite, or null."
            )

    def factor(self, epochs: float) -> float:
        """Learning rate after this many epochs, divided by the initial one."""
        decayed = self.decay_rate ** max(epochs - self.decay_begin, 0)
        return max(decayed, self.final_learning_rate / self.learning_rate)


class GuardedAdam(Adam):
    """Adam, except that a step whose gradient is not finite changes nothing: no parameter, no moment, no count.

    The gradient counts as finite if the square of its norm is, since Adam squares it. The device is not waited for:
    on CUDA the fused step reads there whether it is made. A gradient scaler (precision 16) decides by itself.

    Attributes:
        norms: Euclidean norm of each group's gradient (G,) in the last step; None: a gradient scaler decided.
        made: () whether the last step was made; None: a gradient scaler decided.
    """

    norms: Tensor | None = None
    made: Tensor | None = None

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        if hasattr(self, "found_inf"):
            self.norms = self.made = None
            super().step()
            return loss
        self.norms = torch.stack([_norm(group["params"]) for group in self.param_groups])
        self.made = self.norms.square().isfinite().all()
        if self.defaults["fused"]:
            self.found_inf = (~self.made).float()  # by this name torch's fused step looks for it
            try:
                super().step()
            finally:
                del self.found_inf
        elif self.made:
            super().step()
        return loss


def _norm(parameters: Iterable[Tensor]) -> Tensor:
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def build(networks: Iterable[tuple[nn.Module, DecayedAdam]], decays_per_epoch: int = 1) -> tuple[GuardedAdam, LambdaLR]:
    """One Adam optimiser with a parameter group for each network, and its learning-rate scheduler.

    With a single optimiser a batch is one global step. Step the scheduler ``decays_per_epoch`` times an epoch: once, or
    once for each batch. A loaded state brings Adam's moments and the number of decays; rates, betas, weight
    decay and the kernel (on CUDA a fused one) are those of these settings and this device.
    """
    pairs = list(networks)
    groups: list[dict[str, Any]] = [
        {
            "params": list(net.parameters()),
            "lr": adam.learning_rate,
            "betas": adam.betas,
            "weight_decay": adam.weight_decay,
        }
        for net, adam in pairs
    ]
    on_cuda = all(p.is_cuda for group in groups for p in group["params"])
    optimizer = GuardedAdam(groups, fused=on_cuda or None, decoupled_weight_decay=True)

    def settled(_: object, state: dict[str, Any]) -> dict[str, Any]:
        """The state with ``fused`` of this optimiser, by which torch places Adam's step, and with its betas."""
        own = [
            {
                "fused": on_cuda or None,
                "betas": adam.betas,
                "weight_decay": adam.weight_decay,
                "decoupled_weight_decay": True,
            }
            for _, adam in pairs
        ]
        saved = state["param_groups"]
        return state | {"param_groups": [group | mine for group, mine in zip(saved, own, strict=True)]}

    optimizer.register_load_state_dict_pre_hook(settled)

    def factor(adam: DecayedAdam) -> Callable[[int], float]:
        return lambda decays: adam.factor(decays / decays_per_epoch)

    return optimizer, _Decay(optimizer, [factor(adam) for _, adam in pairs])


def clip(networks: Iterable[tuple[nn.Module, DecayedAdam]]) -> None:
    """Scales the gradient of each network to at most its ``clip_norm``, before the optimiser's step."""
    for net, adam in networks:
        if adam.clip_norm is not None:
            nn.utils.clip_grad_norm_(net.parameters(), adam.clip_norm)


class _Decay(LambdaLR):
    """Goes on at the count of decays of a loaded state, with its own rates; torch takes rates from the state too.

    A rate is the initial one times the decay's factor times the group's ``scale``, which is 1 unless training slowed it
    down, and is a part of the optimiser's state.
    """

    def get_lr(self) -> list[float | Tensor]:
        groups = zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True)
        return [rate * factor(self.last_epoch) * group.get("scale", 1.0) for group, rate, factor in groups]

    def group(self, network: nn.Module) -> dict[str, Any]:
        """The optimiser's settings for a network, of which ``lr`` is the rate now."""
        own = {id(p) for p in network.parameters()}
        (group,) = (g for g in self.optimizer.param_groups if own & {id(p) for p in g["params"]})
        return group

    def slow_down(self, network: nn.Module, factor: float) -> None:
        """Multiplies the scale of a network's learning rate by a factor, from now on."""
        group = self.group(network)
        group["scale"] = group.get("scale", 1.0) * factor
        self._set_rates()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"base_lrs": self.base_lrs})
        self._set_rates()
        vars(self.optimizer)["_opt_called"] = True  # else torch warns of a decay before this process has made a step

    def _set_rates(self) -> None:
        self._last_lr = self.get_lr()
        for group, initial, rate in zip(self.optimizer.param_groups, self.base_lrs, self._last_lr, strict=True):
            group["initial_lr"], group["lr"] = initial, rate
