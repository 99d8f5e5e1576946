"""Distances between feature sets: closed forms, torch-fidelity on the same features, invariances, merging."""

import math

import pytest
import torch
from scipy.spatial.distance import cdist
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from thermoebm.metrics import FrechetDistance, KernelDistance, frechet
from thermoebm.metrics.fidelity import inception_score, memorisation_distance, mifid


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measure(metric, real, fake, batch=64):
    """Updates in batches."""
    for features, is_real in ((real, True), (fake, False)):
        for part in features.split(batch):
            metric.update(part, real=is_real)
    return metric.compute().item()


def distance(real, fake):
    return measure(FrechetDistance(real.shape[1]), real, fake)


@pytest.fixture(scope="module")
def features():
    """Correlated features of 900 real and 700 generated images in 24 dimensions, float32 as extractors give them."""
    mix = normal(24, 24, seed=2)
    return (normal(900, 24) @ mix).float(), (0.3 + 1.2 * normal(700, 24, seed=1) @ mix).float()


def test_frechet_agrees_with_torch_fidelity(features):
    statistics = [fid_features_to_statistics(f.double()) for f in features]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert distance(*features) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("name", ["poly", "rbf"])
def test_kernel_distance_agrees_with_torch_fidelity(features, name):
    """Its one subset is the whole sample, and its σ is such that 1/(2σ²) is our γ = 1/d."""
    real, fake = features[0][:700], features[1]
    theirs = kid_features_to_metric(
        real.double(), fake.double(), kid_subsets=1, kid_subset_size=700, kid_kernel=name, kid_kernel_rbf_sigma=12**0.5
    )["kernel_inception_distance_mean"]
    assert measure(KernelDistance(name), real, fake) == pytest.approx(theirs, rel=1e-5)


def exactly(mean, covariance, count):
    """Features (count, d) whose sample mean and covariance are exactly these."""
    x = normal(count, len(mean), seed=count)
    x = x - x.mean(0)
    whitened = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (count - 1))).T
    values, vectors = torch.linalg.eigh(covariance)
    return mean + whitened @ (vectors * values.clamp(min=0).sqrt()).T


def test_frechet_of_gaussians_in_closed_form():
    """Covariances with common eigenvectors: |Δ|² + Σ (√λ - √κ)²; sample moments are made exact."""
    q = torch.linalg.qr(normal(5, 5)).Q
    a, b = torch.tensor([1.0, 2, 3, 4, 5]).double(), torch.tensor([2.0, 0.5, 3, 9, 1]).double()
    shift = torch.tensor([0.5, 0, -1, 0, 2]).double()
    real = exactly(torch.zeros(5).double(), q @ a.diag() @ q.T, 40)
    fake = exactly(shift, q @ b.diag() @ q.T, 30)
    truth = (shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum()).item()
    assert distance(real, fake) == pytest.approx(truth, rel=1e-12)


def test_frechet_of_singular_covariances_in_closed_form():
    """Ten images each in 50 dimensions: in subspaces orthogonal to one another nothing is common, in one plane all is.

    The textbook product of covariances is right to 1e-8 at best here.
    """
    q = torch.linalg.qr(normal(50, 18)).Q
    x, y = normal(10, 9, seed=1), normal(10, 9, seed=2)
    traces = x.var(0).sum() + y.var(0).sum()
    shift = (x.mean(0).square().sum() + y.mean(0).square().sum()).item()
    assert distance(x @ q[:, :9].T, y @ q[:, 9:].T) == pytest.approx(traces.item() + shift, rel=1e-13)
    assert distance(x @ q[:, :9].T, y @ q[:, :9].T) == pytest.approx(distance(x, y), rel=1e-12)


@pytest.mark.parametrize("count", [20, 200])
def test_identical_sets_are_at_distance_zero(count):
    """Fewer and more images than dimensions, far from zero mean, some features constant; also in another order."""
    x = 100 + 5 * normal(count, 40)
    x[:, 7] = 3.0
    scale = x.var(0).sum().item()
    assert abs(distance(x, x)) < 1e-12 * scale
    assert abs(distance(x, x[torch.randperm(count)])) < 1e-10 * scale


def test_invariances(features):
    """Fréchet and the Gaussian kernel: common shifts and rotations; all: order and exchange of the two sets."""
    real, fake = (f.double() for f in features)
    moved = [f @ torch.linalg.qr(normal(24, 24, seed=5)).Q + 7 for f in (real, fake)]
    for metric in (lambda: FrechetDistance(24), lambda: KernelDistance("rbf")):
        assert measure(metric(), *moved) == pytest.approx(measure(metric(), real, fake), rel=1e-9)
    for metric in (lambda: FrechetDistance(24), lambda: KernelDistance("rbf"), lambda: KernelDistance("poly")):
        assert measure(metric(), fake, real.flip(0)) == pytest.approx(measure(metric(), real, fake), rel=1e-9)


def test_states_of_processes_merge_exactly(features):
    """Stacked factors, as torchmetrics gathers them, and forward(), which merges too."""
    real, fake = features
    halves = [FrechetDistance(24), FrechetDistance(24)]
    for metric, part in zip(halves, (slice(0, 300), slice(300, None)), strict=True):
        metric.update(real[part], real=True)
        metric.update(fake[part], real=False)
    one = FrechetDistance(24)
    for name in ("real", "fake"):
        setattr(one, name, one._reductions[name](torch.stack([getattr(metric, name) for metric in halves])))
    assert one._computed is None
    moments = frechet.moments(one.real), frechet.moments(one.fake)
    assert (moments[0].images, moments[1].images) == (900, 700)
    assert frechet.frechet_distance(*moments).item() == pytest.approx(distance(real, fake), rel=1e-12)
    torch.testing.assert_close(moments[0].mean, real.double().mean(0))
    torch.testing.assert_close(moments[0].factor.T @ moments[0].factor, real.double().T.cov())


def test_influences_are_those_of_leaving_an_image_out():
    """d² - d² without image i = influence_i/(N - 1), up to O(1/N) of it, for either set."""
    x, y = normal(400, 3), 0.5 + 1.5 * normal(300, 3, seed=1)
    parts = frechet.influences(*(frechet.moments(frechet.triangle(f)) for f in (x, y)))
    assert parts.value.item() == pytest.approx(distance(x, y), rel=1e-12)
    for features, form, without in (
        (x, parts.x, lambda rest: distance(rest, y)),
        (y, parts.y, lambda rest: distance(x, rest)),
    ):
        influence = frechet.influence(features, form)
        influence = influence - influence.mean()
        n = len(features)
        for i in influence.abs().topk(3).indices.tolist():
            rest = torch.cat([features[:i], features[i + 1 :]])
            assert (n - 1) * (parts.value.item() - without(rest)) == pytest.approx(influence[i].item(), rel=0.05)


@pytest.mark.parametrize("metric", [lambda: FrechetDistance(3), KernelDistance])
def test_faults_name_the_image(metric):
    features = normal(10, 3)
    (metric := metric()).update(features, real=True)
    features[4, 1] = torch.nan
    features[6, 2] = torch.inf
    with pytest.raises(ValueError, match="features of image 14 are not finite, nor are those of 1 others"):
        metric.update(features, real=True)
    with pytest.raises(ValueError, match=r"shape \(10, 2\); they must be \(number of images, 3\)"):
        metric.update(features[:, :2], real=True)
    with pytest.raises(ValueError, match="two images"):
        metric.compute()


def test_mifid_divides_by_the_distance_of_generated_images_to_the_nearest_training_image():
    """By scipy's cosine distances; features of any length; far images are not punished."""
    real, fake = 5 + 0.1 * normal(60, 4), 5 + 0.1 * normal(50, 4, seed=1)
    similar = 1 - cdist(fake.numpy(), real.numpy(), "cosine")
    memorisation = (1 - abs(similar)).min(1).mean()
    assert memorisation < 0.1
    assert mifid(real, fake).item() == pytest.approx(distance(real, fake) / memorisation, rel=1e-6)
    assert memorisation_distance(3 * real, -fake).item() == pytest.approx(memorisation, rel=1e-6)
    far = normal(50, 64, seed=1)
    assert mifid(normal(60, 64), far).item() == pytest.approx(distance(normal(60, 64), far), rel=1e-9)


def test_the_more_is_memorised_the_more_it_is_punished():
    """Copies of training images: all of them, thirty repeated, or shares of a set of new images."""
    real, new = (5 + 0.1 * normal(2000, 8, seed=seed).float() for seed in (0, 1))
    assert mifid(real, real).item() == math.inf
    assert mifid(real, real[:30].repeat(40, 1)).item() == math.inf
    scores, distances = [], []
    for copies in (0, 500, 1000, 1500):
        fake = torch.cat([real[:copies], new[copies:]])
        scores.append(mifid(real, fake).item())
        distances.append(distance(real, fake))
        share = 1 - copies / 2000
        alone = memorisation_distance(real, new[copies:]).item()
        assert scores[-1] == pytest.approx(distances[-1] / (share * alone), rel=1e-6)
    penalties = [s / d for s, d in zip(scores, distances, strict=True)]
    assert penalties == sorted(penalties)


def test_the_inception_score_is_torchmetrics_own():
    """That of k equally frequent, certain classes is k."""
    state = torch.get_rng_state()
    mean, _ = inception_score(100 * torch.eye(7).repeat(300, 1), splits=2)
    assert mean.item() == pytest.approx(7, rel=0.01)  # a random half is not quite even
    assert torch.equal(state, torch.get_rng_state())
