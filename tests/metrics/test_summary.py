"""All distances at once: names, what is on all images and what is extrapolated, and the figure."""

import math

import pytest
import torch

from tests.metrics.test_kernels import normal
from thermoebm.metrics import FrechetDistance, mmd2
from thermoebm.metrics.features import Extractor
from thermoebm.metrics.kernels import poly, rbf
from thermoebm.metrics.summary import extrapolation_figure, summarise

NAMES = Extractor("inception", torch.nn.Identity()).distance_names
SIZES = [40, 60, 80]


@pytest.mark.parametrize("protocol", ["nested", "with_replacement"])
@pytest.mark.parametrize("counts", [(80, 80), (90, 120)])
def test_the_plain_values_are_those_on_all_images(counts, protocol):
    real, fake = normal(counts[0], 4), 0.2 + normal(counts[1], 4, seed=1)
    scalars, lines, _ = summarise(real, fake, NAMES, SIZES, torch.Generator().manual_seed(0), protocol)
    frechet = FrechetDistance(4)
    frechet.update(real, real=True)
    frechet.update(fake, real=False)
    assert scalars["FID"] == pytest.approx(frechet.compute().item(), rel=1e-10)
    assert scalars["KID"] == pytest.approx(mmd2(real, fake, poly).item(), rel=1e-10)
    assert scalars["KID-rbf"] == pytest.approx(mmd2(real, fake, rbf).item(), rel=1e-10)
    assert scalars["KID_inf"] == lines["KID"].intercept
    assert scalars["FID_inf_se"] == lines["FID"].standard_error
    assert [line.unbiased for line in lines.values()] == [False] + 2 * [protocol == "nested"]


def test_the_figure_shows_the_points_the_line_and_the_intercept_with_its_error():
    _, lines, _ = summarise(normal(80, 4), 1 + normal(80, 4, seed=1), NAMES, SIZES, torch.Generator().manual_seed(0))
    figure = extrapolation_figure(lines)
    assert [axes.get_ylabel() for axes in figure.axes] == ["FID", "KID", "KID-rbf"]
    for axes, fitted in zip(figure.axes, lines.values(), strict=True):
        points, line = axes.get_lines()[:2]
        assert points.get_xydata()[:, 0] == pytest.approx([1000 / n for n in SIZES])
        assert points.get_xydata()[:, 1] == pytest.approx(fitted.values)
        ends = line.get_xydata()
        assert ends[0] == pytest.approx([0, fitted.intercept])
        assert ends[1] == pytest.approx([25, fitted.intercept + fitted.slope / 40])
        ((low, high),) = axes.containers[0].lines[2][0].get_segments()
        assert [low[1], high[1]] == pytest.approx(
            [fitted.intercept - fitted.standard_error, fitted.intercept + fitted.standard_error]
        )
        assert ("unbiased" in axes.get_title()) == fitted.unbiased


@pytest.mark.parametrize("dimensions", [39, 40])
def test_an_intercept_that_stays_biased_has_no_standard_error(dimensions):
    """Smallest N = 40: with N ≤ d covariances are singular, and figure and sentence say so; kernels do not care."""
    real, fake = normal(80, dimensions), normal(80, dimensions, seed=1)
    scalars, lines, remarks = summarise(real, fake, NAMES, SIZES, torch.Generator().manual_seed(0))
    singular = dimensions == 40
    assert math.isnan(scalars["FID_inf_se"]) == singular
    assert scalars["FID_inf"] == lines["FID"].intercept
    assert all(scalars[name] > 0 for name in ("FID_inf", "KID_inf_se", "KID-rbf_inf_se"))
    assert [remark.partition(",")[0] for remark in remarks] == singular * [
        "FID is right for the singular covariances of 40 images in 40 dimensions"
    ]
    figure = extrapolation_figure(lines)
    figure.canvas.draw()
    biased = ["biased: smallest N ≤ d" in axes.get_title() for axes in figure.axes]
    assert biased == ["±" not in axes.get_title() for axes in figure.axes] == [singular, False, False]
