"""The table that evaluate.py prints, of rows made by hand."""

import math

from thermoebm.cli.evaluation_table import table


def row(label: str, distances: dict[str, tuple[float, float, float, bool]], flat: tuple[str, ...] = ()) -> dict:
    """A checkpoint's row; of each distance: the value at N = ∞, its error, that of all images, whether unbiased.

    The slopes of those in ``flat`` are within their error.
    """
    found = {"label": label, "chains": "c", "reconstruction_error": 0.5, "short_run_evidence": 1.0}
    found |= {"short_run_evidence_se": 0.1, "left_sum": 0.0, "right_sum": 2.0, "short_run_bits_per_dimension": 3.0}
    found |= {"extrapolations": {}}
    found |= {"evidence_images": 60, "held_out_images": 297}
    for name, (infinite, error, everything, unbiased) in distances.items():
        found |= {f"{name}_inf": infinite, f"{name}_inf_se": error, name: everything}
        found["extrapolations"][name] = {"unbiased": unbiased, "slope_is_noise": name in flat}
    return found


def test_the_value_of_all_images_stands_beside_that_at_infinity():
    """Also where the latter has no standard error; a row whose distances failed has none of either."""
    shown = table([row("a", {"KD": (0.31, 0.02, 0.27, True), "FD": (5.5, math.nan, 6.25, False)}), row("b", {})])
    head, first, second = shown.splitlines()[1:4]
    assert "KD N=∞, all images" in head
    assert "FD N=∞, all images" in head
    assert "0.31 ± 0.02, 0.27 " in first
    assert "5.5 (biased: smallest N ≤ d), 6.25 " in first
    assert second.split() == ["b", "0.5000", "1.00", "±", "0.10", "0.00,", "2.00", "3.000"]


def test_the_slope_is_called_noise_where_it_is_and_nowhere_else():
    """Only a distance that is unbiased at every N: not the Fréchet distance, nor any on copies of images."""
    noise = "unbiased at every N, so the slope is noise"
    kernels = {"KD": (0.31, 0.02, 0.27, True), "KD-rbf": (0.1, 0.02, 0.1, True)}
    shown = table([row("a", kernels | {"FD": (5.5, 0.1, 6.25, False)})])
    assert f"\nKD, KD-rbf: {noise}" in shown
    assert "FD:" not in shown
    assert noise not in table([row("a", {"KD": (0.31, 0.02, 0.27, False)})])


def test_a_slope_within_its_error_is_called_noise_of_the_checkpoint_that_has_it():
    """Of a biased distance; of an unbiased one, any slope is noise, and this is said once."""
    distances = {"FD": (5.5, 0.1, 6.25, False), "KD": (0.31, 0.02, 0.27, True)}
    rows = [row("a", distances), row("b", distances, flat=("FD", "KD")), row("c", {})]
    told = [line for line in table(rows).splitlines() if "slope" in line]
    assert [line.partition(":")[0] for line in told] == ["KD", "FD of b"]
    assert "within two standard errors of 0" in told[1]


def test_the_table_says_which_images_and_whose_noise():
    """Only then can its numbers be compared with those of train.py."""
    assert "60 of 297 held-out images" in table([row("a", {})])
