"""What a ladder of temperatures is, and where to put its rungs: at equal thermodynamic length.

Temperatures t_i are (T,), with Δ_i = t_i - t_{i-1}; E_t = E_t[log p_β(x|z)] is in nats.
"""

import torch
from torch import Tensor

#: Part of the thermodynamic length that is given to all intervals alike.
SHARE = 1e-3


def check(name: str, t: Tensor, given: str) -> None:
    """Raises a ValueError unless t (T,) ascends from 0 to 1, in float32 as well, in which chains are run."""
    if t.ndim != 1 or len(t) < 2:
        raise ValueError(f"{name}: there are {t.numel()} temperatures; give at least 2, from 0 to 1.")
    if not t.isfinite().all():
        raise ValueError(f"{name}: {given} and not every temperature is finite; give numbers from 0 to 1.")
    if t[0] != 0 or t[-1] != 1:
        raise ValueError(f"{name}: the temperatures go from {t[0]:g} to {t[-1]:g}; they must begin at 0 and end at 1.")
    steps = t.float().diff()
    if not (steps > 0).all():
        i = int((steps <= 0).nonzero()[0])
        why = "descend" if t[i] > t[i + 1] else "coincide in float32"
        raise ValueError(f"{name}: {given} and temperatures {i} and {i + 1} {why}; each must exceed the one before.")


def equal_length(temperatures: Tensor, expected: Tensor, num_intervals: int, share: float = SHARE) -> Tensor:
    """Temperatures at equal thermodynamic length, from E_t[log p_β(x|z)] at those of a pilot.

    Since d/dt E_t = Var_t, the mean of Var_t over an interval is (E_i - E_{i-1})/Δ_i, and the interval's length is

        ∫ Var_t^½ dt ≈ (Δ_i (E_i - E_{i-1}))^½,

    the root of KL(p_{i-1}‖p_i) + KL(p_i‖p_{i-1}). The points divide its sum evenly; between pilot points it is taken
    to grow linearly. Exact E_t never decrease. Estimates are pooled until they do not either (isotonic regression):
    a positive part alone would count upward noise and not the downward noise that follows it.

    Args:
        temperatures: Of the pilot (T,), ascending from 0 to 1.
        expected: E_i (T,).
        num_intervals: N of the result, smaller or larger than the pilot's.
        share: Part of the length that is given to all pilot intervals alike, so that none has length 0.

    Returns:
        Temperatures (N + 1,), float64, ascending from exactly 0 to exactly 1.

    Raises:
        ValueError: If shapes differ, the pilot is no schedule, a value is not finite or there is no interval.
    """
    if expected.shape != temperatures.shape or num_intervals < 1 or not 0 < share <= 1:
        raise ValueError(
            f"equal_length: there are {tuple(temperatures.shape)} temperatures, {tuple(expected.shape)} expected "
            f"log-likelihoods, {num_intervals} intervals and a share of {share}; give one value for each temperature, "
            "at least 1 interval and a share above 0, at most 1."
        )
    check("equal_length", temperatures, "the pilot is given")
    if not expected.isfinite().all():
        raise ValueError("equal_length: expected has values that are not finite; give finite nats.")
    return unchecked_equal_length(temperatures, expected, num_intervals, share)


def unchecked_equal_length(t: Tensor, expected: Tensor, intervals: int, share: float = SHARE) -> Tensor:
    """As :func:`equal_length`; the host need not wait for the device."""
    t = t.double()
    lengths = (t.diff() * _isotonic(expected.double()).diff()).clamp(min=0).sqrt()
    total = lengths.sum()
    even = torch.full_like(lengths, 1 / len(lengths))
    relative = (lengths / total).where(total > 0, even)
    ends = torch.cat([t.new_zeros(1), ((1 - share) * relative + share * even).cumsum(0)])
    at = torch.linspace(0, 1, intervals + 1, dtype=t.dtype, device=t.device)[1:-1] * ends[-1]
    i = torch.searchsorted(ends, at).clamp(1, len(lengths))
    inner = t[i - 1] + (t[i] - t[i - 1]) * (at - ends[i - 1]) / (ends[i] - ends[i - 1])
    return torch.cat([t[:1], inner, t[-1:]])


def _isotonic(y: Tensor) -> Tensor:
    """The non-decreasing sequence nearest to y (T,) in squares: max_{j≤i} min_{k≥i} mean(y_j..y_k)."""
    count = torch.arange(1, len(y) + 1, device=y.device)
    sums = torch.cat([y.new_zeros(1), (y - y.mean()).cumsum(0)])
    size = (count[None, :] - count[:, None] + 1).clamp(min=1)
    means = ((sums[None, 1:] - sums[:-1, None]) / size).where(count[None, :] >= count[:, None], torch.inf)
    least = means.flip(1).cummin(1).values.flip(1)  # over k ≥ i, for each first index j
    return least.where(count[None, :] >= count[:, None], -torch.inf).amax(0) + y.mean()
