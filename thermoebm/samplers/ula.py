"""The unadjusted Langevin algorithm (report, equation 10)."""

import math
from typing import NamedTuple

from torch import Tensor

from thermoebm.densities import Density
from thermoebm.samplers.base import Kernel


class ULAState(NamedTuple):
    """The current states z (..., d) of the chains."""

    z: Tensor


class ULAInfo(NamedTuple):
    """The score (..., d) at the start of the step."""

    score: Tensor


class ULA(Kernel):
    """Unadjusted Langevin algorithm: z ← z + s ∇log q(z) + sqrt(2 s) ε, ε ~ N(0, I) (report, equation 10).

    There is no Metropolis correction, so the stationary distribution is not q: for q = N(0, 1) its variance is
    1 / (1 - s/2).
    """

    def init(self, density: Density, z: Tensor) -> ULAState:
        return ULAState(z)

    def step(self, density: Density, state: ULAState, noise: Tensor) -> tuple[ULAState, ULAInfo]:
        score = density.score(state.z)
        z = state.z + self.step_size * score + math.sqrt(2 * self.step_size) * noise
        return ULAState(z), ULAInfo(score)
