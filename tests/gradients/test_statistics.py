"""Statistics of gradients whose law is known in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from thermoebm.gradients.statistics import Decomposition, Design, RunningNoiseScale, across_parameters, networks

NAMES = ("energy.weight", "energy.bias", "generator.weight")
SHAPES = ((3, 4), (2,), (2, 3, 2))
SIZES = [math.prod(shape) for shape in SHAPES]
P = sum(SIZES)

# g_mr = MEAN + DATA (d_m + c_m) / √2 + SAMPLER s_mr, component by component; c_m is common to all components, so that
# they are correlated and their spread tells nothing of the error.
MEAN = np.linspace(-1, 2, P)
DATA = np.linspace(0.5, 1.5, P)
SAMPLER = np.linspace(2, 0.4, P)


def draws(design: Design, seed: int) -> np.ndarray:
    """Gradients (M, R, P)."""
    rng = np.random.default_rng(seed)
    data = (rng.normal(size=(design.num_batches, 1, P)) + rng.normal(size=(design.num_batches, 1, 1))) / math.sqrt(2)
    return MEAN + DATA * data + SAMPLER * rng.normal(size=(design.num_batches, design.repetitions, P))


def gradient(vector: np.ndarray, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """A vector (P,) as new tensors."""
    parts = torch.tensor(vector, dtype=dtype).split(SIZES)
    return [part.reshape(shape).clone() for part, shape in zip(parts, SHAPES, strict=True)]


def streamed(g: np.ndarray, design: Design, dtype: torch.dtype = torch.float64) -> Decomposition:
    state = Decomposition(NAMES, design, dtype)
    for vector in g.reshape(-1, P):
        state.update(gradient(vector, dtype))
    return state


def flat(state: Decomposition) -> np.ndarray:
    return np.concatenate([v.flatten() for _, v in state.per_parameter()])


PARTS = {
    "energy": slice(0, 14),
    "generator": slice(14, P),
    "both": slice(0, P),
    "energy.weight": slice(0, 12),
    "energy.bias": slice(12, 14),
    "generator.weight": slice(14, P),
}


def truth(part: str) -> dict[str, float]:
    d, s, m = (v[PARTS[part]] ** 2 for v in (DATA, SAMPLER, MEAN))
    total, square = (d + s).mean(), (d + s + m).mean()
    return {
        "total": total,
        "data": d.mean(),
        "sampler": s.mean(),
        "mean_square": square,
        "normalised": total / square,
    }


def test_every_component_is_known_within_four_standard_errors():
    """1,000 mini-batches of three repetitions in 50 blocks; each standard error is a few per cent of the truth."""
    design = Design(1000, 3, 50)
    state = streamed(draws(design, seed=0), design)
    report = state.report()
    assert report.keys() == PARTS.keys()
    for part, estimates in report.items():
        assert estimates.keys() == truth(part).keys()
        for quantity, expected in truth(part).items():
            value, error, _ = estimates[quantity]
            assert abs(value - expected) < 4 * error, (part, quantity)
            assert error < (0.2 if part == "energy.bias" else 0.06) * expected, (part, quantity)
    # A single component: the total is a chi-squared with at least 950 degrees of freedom.
    assert (abs(flat(state) / (DATA**2 + SAMPLER**2) - 1) < 4 * math.sqrt(2 / 950)).all()


@pytest.fixture(scope="module")
def repetitions() -> dict[tuple[str, str], np.ndarray]:
    """2,000 measurements of 8 mini-batches x 2: value, standard error, half interval of quantities of two parts."""
    design = Design(8, 2, 4)
    rows: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for g in np.split(draws(Design(8 * 2000, 2, 4), seed=1), 2000):
        state = streamed(g, design)
        for part, members in networks(NAMES).items():
            if part != "energy":
                for quantity, estimate in state.estimate(members).items():
                    rows.setdefault((part, quantity), []).append(
                        (estimate.value, estimate.standard_error, estimate.half_width)
                    )
    return {key: np.array(values) for key, values in rows.items()}


@pytest.mark.parametrize("part", ["generator", "both"])
@pytest.mark.parametrize("quantity", ["total", "data", "sampler", "mean_square"])
def test_estimates_are_unbiased(repetitions, part, quantity):
    """The mean of 2,000 small measurements, within 4 of its standard errors."""
    values = repetitions[part, quantity][:, 0]
    expected, error = truth(part)[quantity], values.std(ddof=1) / math.sqrt(2000)
    assert abs(values.mean() - expected) < 4 * error
    assert error < 0.025 * expected


@pytest.mark.parametrize("part", ["generator", "both"])
@pytest.mark.parametrize("quantity", ["total", "data", "sampler", "mean_square"])
def test_standard_errors_are_the_spread_over_repetitions(repetitions, part, quantity):
    """The mean of the reported variances is the variance of the estimates, within 4 standard errors."""
    values, errors, _ = repetitions[part, quantity].T
    difference = errors**2 - (values - values.mean()) ** 2
    uncertainty = difference.std() / math.sqrt(2000)
    assert abs(difference.mean()) < 4 * uncertainty
    assert uncertainty < 0.08 * values.var()  # dividing by K instead of K - 1 would be off by 1/4


@pytest.mark.parametrize("part", ["generator", "both"])
@pytest.mark.parametrize("quantity", ["total", "data", "sampler", "mean_square"])
def test_intervals_cover_the_truth(repetitions, part, quantity):
    """95 % (standard error .5) where four blocks are about normal, less of few squares; ± 1.96 errors miss 8 % more."""
    values, errors, halves = repetitions[part, quantity].T
    misses = abs(values - truth(part)[quantity])
    covered = (misses < halves).mean()
    assert (0.86 if quantity in ("total", "data") else 0.91) < covered < 0.97
    assert (misses < 1.96 * errors).mean() < covered - 0.08


def test_the_error_of_the_ratio_is_about_its_spread(repetitions):
    """A ratio from four blocks: its linearised error has the right size, no more."""
    values, errors, _ = repetitions["both", "normalised"].T
    assert 0.8 < math.sqrt((errors**2).mean()) / values.std() < 1.25
    assert abs(values.mean() / truth("both")["normalised"] - 1) < 0.05  # the bias of a ratio falls with the blocks


def test_streaming_is_the_two_pass_formula():
    """The textbook's one-way analysis of variance of each block on stored gradients, to 1e-10."""
    design = Design(12, 3, 3)
    g = draws(design, seed=2)
    state = streamed(g, design)
    g = g.reshape(3, 4, 3, P)
    within = g.var(axis=2, ddof=1).mean(1)
    between = g.mean(2).var(axis=1, ddof=1) - within / 3
    np.testing.assert_allclose(flat(state), (within + between).mean(0), rtol=1e-10)
    columns = {"sampler": within, "data": between, "total": within + between, "mean_square": (g**2).mean((1, 2))}
    for part, estimates in state.report().items():
        for quantity, rows in columns.items():
            blocks = rows[:, PARTS[part]].mean(-1)
            expected = blocks.mean(), blocks.std(ddof=1) / math.sqrt(3)
            np.testing.assert_allclose(estimates[quantity][:2], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "offset", "tolerance"), [(torch.float64, 1e3, 1e-10), (torch.float32, 1e4, 3e-3)])
def test_a_constant_added_to_every_gradient_changes_no_variance(dtype, offset, tolerance):
    """Float32 numbers near 10,000 are 1e-3 apart; sums of squares there would lose all seven digits."""
    design = Design(12, 3, 3)
    g = draws(design, seed=3)
    before, after = (streamed(g + c, design, dtype) for c in (0.0, offset))
    np.testing.assert_allclose(flat(after), flat(before), rtol=30 * tolerance)
    for part in ("energy", "generator", "both"):
        for quantity in ("total", "data", "sampler"):
            old, new = (state.report()[part][quantity] for state in (before, after))
            np.testing.assert_allclose(new, old, rtol=0, atol=tolerance * truth(part)["total"])


# Merging


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 4, 6, 12])
def test_merged_halves_are_the_whole(batches):
    """Cut between mini-batches, at the end of a block or within it, and continued afterwards."""
    design = Design(12, 3, 3)
    g = draws(design, seed=6)
    first, second = streamed(g[:batches], design), streamed(g[batches:10], design)
    if first.between.count + second.between.count > 4:
        with pytest.raises(ValueError, match="open blocks that fit into one"):
            first.merge(second)
        return
    first.merge(second)
    for vector in g[10 if batches < 10 else 12 :].reshape(-1, P):
        first.update(gradient(vector))
    # Blocks are groups of mini-batches: cut after one mini-batch, the second half groups them otherwise.
    order = [*range(batches - batches % 4), *range(batches, 10), *range(batches - batches % 4, batches), *range(10, 12)]
    whole = streamed(g[order[:12]], design)
    np.testing.assert_allclose(flat(first), flat(whole), rtol=1e-12)
    for part, estimates in whole.report().items():
        np.testing.assert_allclose(list(first.report()[part].values()), list(estimates.values()), rtol=1e-10)


def test_a_mini_batch_is_not_merged_in_halves():
    design = Design(4, 2, 2)
    half = Decomposition(NAMES, design)
    half.update(gradient(MEAN, torch.float32))
    with pytest.raises(ValueError, match="only whole mini-batches"):
        half.merge(Decomposition(NAMES, design))


# One gradient, and consecutive ones


def test_across_parameters_is_the_population_variance_of_the_flattened_gradient():
    """All tensors together, around their common mean: 1, 2, ..., n has variance (n² - 1)/12."""
    n = 31
    numbers = torch.arange(1.0, n + 1)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    variance, mean = across_parameters([numbers[:6].view(2, 3), numbers[6:7], numbers[7:].view(2, 3, 4)])
    assert (variance.item(), mean.item()) == pytest.approx(((n**2 - 1) / 12, (n + 1) / 2), rel=1e-6)


def test_networks_are_found_by_name():
    assert networks(NAMES) == {"energy": [0, 1], "generator": [2], "both": [0, 1, 2]}


def noise_scale(vectors: np.ndarray) -> RunningNoiseScale:
    scale = RunningNoiseScale()
    for vector in vectors:
        scale.update(gradient(vector))
    return scale


def test_running_noise_scale_is_that_of_two_batch_sizes():
    """McCandlish et al. (2018), equations A.2, with one step's batch and that of two: |G|² and S, averaged."""
    g, b = np.random.default_rng(9).normal(1, 1, (6, P)), 75
    for members, columns in (([0, 1, 2], slice(0, P)), ([2], PARTS["generator"])):
        pairs = np.stack([g[:-1, columns], g[1:, columns]])
        small, big = (pairs**2).sum(-1).mean(0), (pairs.mean(0) ** 2).sum(-1)
        signal = (2 * b * big - b * small) / (2 * b - b)
        trace = (small - big) / (1 / b - 1 / (2 * b))
        assert noise_scale(g).value(members, b) == pytest.approx(trace.mean() / signal.mean(), rel=1e-10)


def test_running_noise_scale_of_a_gaussian_is_known():
    """Gradients of b images, N(G, Σ/b): tr(Σ)/|G|² in 30 runs of 400 steps, within 4 standard errors."""
    rng, b = np.random.default_rng(10), 50
    expected = b * (SAMPLER**2).sum() / (MEAN**2).sum()
    values = [noise_scale(MEAN + SAMPLER * rng.normal(size=(400, P))).value([0, 1, 2], b) for _ in range(30)]
    error = np.std(values, ddof=1) / math.sqrt(30)
    assert abs(np.mean(values) - expected) < 4 * error + 0.002 * expected  # a ratio's bias is its relative variance
    assert error < 0.02 * expected


def test_running_noise_scale_that_cannot_be_told_is_not_a_number():
    """No pair of steps, or gradients that point against one another."""
    assert math.isnan(noise_scale(MEAN[None]).value([0], 75))
    assert math.isnan(noise_scale(np.stack([MEAN, -MEAN])).value([0], 75))


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ((16, 1, 8), "repetitions is 1"),
        ((16, 2, 1), "blocks 1"),
        ((17, 2, 8), "num_batches is 17; it must be a multiple of blocks"),
        ((8, 2, 8), "num_batches is 8"),
    ],
)
def test_designs_without_degrees_of_freedom_are_refused(numbers, sentence):
    with pytest.raises(ValueError, match=sentence):
        Design(*numbers)
