"""What alarms judge after an epoch, and which networks learn more slowly after a runaway."""

from typing import NamedTuple

from thermoebm.modules import ImageModel


class Vitals(NamedTuple):
    """What is judged after an epoch, the same on all processes; all numbers are means over them.

    Args:
        tilt: E_{p_α}[f_α] - E_{π0}[f_α] of a latent EBM, E_data[f_α] - E_generated[f_α] of a divergence triangle, in
            nats.
        tilt_error: Its standard error.
        mean_square: |z|²/(d σ0²) of prior chains.
        broken: 0 if the parameters of all networks are finite.
        acceptance: Of a corrected step at the ends of the prior's chains; 1 if they are corrected.
    """

    tilt: float
    tilt_error: float
    mean_square: float
    broken: float
    acceptance: float = 1.0


def slowed(model: ImageModel) -> tuple[str, ...]:
    """The networks that learn more slowly after a runaway: the energy, or all where there is none."""
    names = tuple(model.networks())
    return ("energy",) if "energy" in names else names
