"""All distances between two sets of features at once, under the names that suit the features."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from thermoebm.metrics import frechet, kernels
from thermoebm.metrics.extrapolation import Extrapolation, Extrapolator, Protocol
from thermoebm.metrics.features import DistanceNames
from thermoebm.metrics.kernels import KernelName

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Summary(NamedTuple):
    """Scalars by name, for instance ``FID``, ``FID_inf`` and ``FID_inf_se``, and the fitted lines by distance.

    Remarks are sentences on how to read the numbers.
    """

    scalars: dict[str, float]
    lines: dict[str, Extrapolation]
    remarks: list[str]


def summarise(
    real: Tensor,
    fake: Tensor,
    names: DistanceNames,
    sizes: Sequence[int],
    rng: torch.Generator,
    protocol: Protocol = "nested",
    kernel_names: Sequence[KernelName] = ("poly", "rbf"),
) -> Summary:
    """Fréchet and kernel distances on all images and extrapolated.

    Args:
        real: Features (N, d) of real images.
        fake: Features (M, d) of generated images.
        names: Names of the distances.
        sizes: Sizes of the subsets; see :func:`thermoebm.metrics.extrapolation.fit_sizes`.
        rng: Stream that draws the subsets.
        protocol: How the subsets are drawn; see :func:`thermoebm.metrics.extrapolation.subsets`.
        kernel_names: Kernels of the kernel distances.
    """
    extrapolator = Extrapolator(real, fake, sizes, rng, protocol)
    lines = {names.frechet: extrapolator.frechet()}
    lines |= {getattr(names, name): extrapolator.kernel(name) for name in kernel_names}
    scalars = {}
    if protocol == "nested" and sizes[-1] == len(real) == len(fake):
        scalars = {name: fitted.values[-1] for name, fitted in lines.items()}
    else:
        moments = (frechet.moments(frechet.triangle(features.double())) for features in (real, fake))
        scalars[names.frechet] = frechet.frechet_distance(*moments).item()
        for kernel in kernel_names:
            scalars[getattr(names, kernel)] = kernels.mmd2(real, fake, kernels.kernel(kernel)).item()
    for name, fitted in lines.items():
        scalars |= {
            f"{name}_inf": fitted.intercept,
            f"{name}_inf_se": fitted.standard_error,
            f"{name}_slope": fitted.slope,
            f"{name}_r2": fitted.r_squared,
        }
    remarks = []
    if math.isnan(lines[names.frechet].standard_error):
        remarks.append(
            f"{names.frechet} is right for the singular covariances of {sizes[0]} images in {real.shape[1]} "
            "dimensions, but its bias is no straight line in 1/N there: its N=∞ is biased and has no standard error; "
            f"take sizes above {real.shape[1]}."
        )
    return Summary(scalars, lines, remarks)


def plus_minus(fitted: float, error: float) -> str:
    """Text of an intercept and its standard error; if that is NaN, the text says that the intercept is biased."""
    return f"{fitted:.4g} (biased: smallest N ≤ d)" if math.isnan(error) else f"{fitted:.4g} ± {error:.2g}"


def extrapolation_figure(lines: dict[str, Extrapolation]) -> "Figure":
    """One panel per distance: its values against 1/N, the line, and the intercept with its standard error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(lines), 3.8), layout="constrained")
    for k, (name, fitted) in enumerate(lines.items()):
        axes = figure.add_subplot(1, len(lines), k + 1)
        inverse = [1000 / size for size in fitted.sizes]  # legible numbers
        ends = [0.0, max(inverse)]
        axes.plot(inverse, fitted.values, "o", color="C0", markersize=4, label="subsets of N images")
        axes.plot(ends, [fitted.intercept + fitted.slope / 1000 * x for x in ends], color="C0", linewidth=0.8)
        error = None if math.isnan(fitted.standard_error) else [fitted.standard_error]
        axes.errorbar([0], [fitted.intercept], error, fmt="s", color="C3", capsize=4, label="N = ∞")
        axes.set(xlabel="1000/N", ylabel=name)
        axes.set_title(
            f"N = ∞: {plus_minus(fitted.intercept, fitted.standard_error)}, slope {fitted.slope:.3g}, "
            f"R² {fitted.r_squared:.2f}\n{_of_slope(fitted)}",
            fontsize=9,
        )
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _of_slope(fitted: Extrapolation) -> str:
    """Why the slope is noise, if it is: because the distance has no bias, or because the images show none."""
    if fitted.unbiased:
        return "unbiased at every N: any slope is noise"
    return "slope within 2 standard errors of 0: noise" if fitted.slope_is_noise else ""
