"""Adam with the learning-rate decay of the report's table 3."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR


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

    Raises:
        ValueError: If a rate is out of its range.
    """

    learning_rate: float = 1e-4
    final_learning_rate: float = 5e-5
    betas: tuple[float, float] = (0.5, 0.999)
    decay_rate: float = 0.975
    decay_begin: int = 1

    def __post_init__(self) -> None:
        if not self.learning_rate >= self.final_learning_rate >= 0 or self.learning_rate == 0:
            raise ValueError(
                f"DecayedAdam: learning_rate {self.learning_rate} must be positive and at least "
                f"final_learning_rate {self.final_learning_rate}, which must not be negative."
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"DecayedAdam: betas {self.betas} must lie in [0, 1).")
        if not 0 < self.decay_rate <= 1 or self.decay_begin < 0:
            raise ValueError(
                f"DecayedAdam: decay_rate {self.decay_rate} must lie in (0, 1] and decay_begin {self.decay_begin} "
                "must not be negative."
            )

    def factor(self, epochs: float) -> float:
        """Learning rate after this many epochs, divided by the initial one."""
        decayed = self.decay_rate ** max(epochs - self.decay_begin, 0)
        return max(decayed, self.final_learning_rate / self.learning_rate)


def build(networks: Iterable[tuple[nn.Module, DecayedAdam]], decays_per_epoch: int = 1) -> tuple[Adam, LambdaLR]:
    """One Adam optimiser with a parameter group for each network, and its learning-rate scheduler.

    With a single optimiser a batch is one global step. Step the scheduler ``decays_per_epoch`` times an epoch: once, or
    once for each batch. On CUDA a step is one fused kernel, wherever a loaded state was saved.
    """
    pairs = list(networks)
    groups: list[dict[str, Any]] = [
        {"params": list(net.parameters()), "lr": adam.learning_rate, "betas": adam.betas} for net, adam in pairs
    ]
    on_cuda = all(p.is_cuda for group in groups for p in group["params"])
    optimizer = Adam(groups, fused=on_cuda or None)

    def by_device(_: object, state: dict[str, Any]) -> dict[str, Any]:
        """The state with ``fused`` of this optimiser: torch takes it from the state, and places Adam's step by it."""
        return state | {"param_groups": [group | {"fused": on_cuda or None} for group in state["param_groups"]]}

    optimizer.register_load_state_dict_pre_hook(by_device)

    def factor(adam: DecayedAdam) -> Callable[[int], float]:
        return lambda decays: adam.factor(decays / decays_per_epoch)

    return optimizer, LambdaLR(optimizer, [factor(adam) for _, adam in pairs])
