"""What is drawn is what the tables say: points, error bars, boxes, curves, and the words on the axes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from tests.study import tables as study_tables
from thermoebm.runs.logged import VARIANCES
from thermoebm.study.figures import boxes, cost, curves, scatter, schedules, style, tables
from thermoebm.study.planning.columns import IDENTITY, REGIMES

KERNEL = f"fidelity/test/{study_tables.KERNEL}_inf"
FRECHET = f"fidelity/test/{study_tables.FRECHET}_inf"
ACROSS = VARIANCES["across parameters"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study_tables.write(folder)
    return folder


@pytest.fixture(scope="module")
def study(folder) -> tables.Study:
    (study,) = tables.read(folder)
    return study


@pytest.fixture(scope="module")
def final(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "final.csv")


def bars_of(axes) -> list[tuple[float, ...]]:
    """(x, y, half width, half height) of each point with error bars, in the order in which they were drawn."""
    found = []
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, (across, up) = container
        (left, _), (right, _) = across.get_segments()[0]
        (_, low), (_, high) = up.get_segments()[0]
        found.append((line.get_xdata()[0], line.get_ydata()[0], (right - left) / 2, (high - low) / 2))
    return found


def expected_bars(final: pd.DataFrame, names: list[str], x: str, y: str) -> list[tuple[float, ...]]:
    by_cell = final.groupby("cell")[[x, y]]
    mean, sd = by_cell.mean(), by_cell.std()
    return [(mean.at[name, x], mean.at[name, y], sd.at[name, x], sd.at[name, y]) for name in names]


CELLS = {
    "vanilla": ["batch 25", "batch 50", "batch 75", "batch 150"],
    "0 < p ≤ 1": ["p 0.1", "p 0.3", "p 1"],
    "p > 1": ["p 2", "p 3", "p 6", "p 10"],
}


def test_schedules_are_powers_of_i_over_n(study):
    (axes,) = schedules.schedules(study).axes
    assert len(axes.lines) == 7
    for line, p in zip(axes.lines, (0.1, 0.3, 1, 2, 3, 6, 10), strict=True):
        assert line.get_label() == f"p = {p:g}"
        assert np.allclose(line.get_ydata(), (np.arange(11) / 10) ** p)
        assert list(line.get_xdata()) == list(range(11))


@pytest.mark.parametrize(
    ("draw", "regimes", "ticks"),
    [
        (boxes.against_batch, ["vanilla"], ["25", "50", "75", "150"]),
        (boxes.against_power, ["0 < p ≤ 1", "p > 1"], ["0.1", "0.3", "1", "2", "3", "6", "10"]),
    ],
)
def test_boxes_are_quartiles_of_the_runs_in_order(study, final, draw, regimes, ticks):
    figure = draw(study)
    names = [name for regime in regimes for name in CELLS[regime]]
    assert [axes.get_ylabel() for axes in figure.axes] == [f"gradient variance,\n{name}" for name in VARIANCES]
    for axes, column in zip(figure.axes, VARIANCES.values(), strict=True):
        assert [text.get_text() for text in axes.get_xticklabels()] == ticks
        # Of each box: two whiskers, two caps, the median, then the runs.
        lines = [axes.lines[6 * k : 6 * k + 6] for k in range(len(names))]
        for place, (name, drawn, patch) in enumerate(zip(names, lines, axes.patches, strict=True)):
            values = final.loc[final["cell"] == name, column].to_numpy()
            assert np.allclose(np.unique(patch.get_path().vertices[:, 1]), np.quantile(values, [0.25, 0.75]))
            assert np.allclose(drawn[4].get_ydata(), np.median(values))
            assert np.allclose(drawn[5].get_ydata(), values)
            assert np.allclose(drawn[5].get_xdata(), place)


@pytest.mark.parametrize(("draw", "distance"), [(scatter.kernel, KERNEL), (scatter.frechet, FRECHET)])
def test_separate_panels_have_means_deviations_and_runs_of_their_regime(study, final, draw, distance):
    panels = iter(draw(study).axes)
    name = distance.split("/")[-1].removesuffix("_inf")
    for variance, column in VARIANCES.items():
        for regime in REGIMES:
            axes = next(panels)
            assert np.allclose(bars_of(axes), expected_bars(final, CELLS[regime], column, distance))
            assert axes.get_xlabel() == f"gradient variance,\n{variance}"
            assert axes.get_title().startswith(f"{regime}\n")
            assert regime != "vanilla" or axes.get_ylabel() == f"{name}∞\nto test images"
            assert all(line.get_color() == style.COLOURS[regime] for line in axes.lines)
            runs = [line for line in axes.lines if line.get_alpha() == 0.25]
            drawn = np.concatenate([np.stack(line.get_data(), 1) for line in runs])
            chosen = pd.concat([final[final["cell"] == cell] for cell in CELLS[regime]])
            assert np.allclose(drawn, chosen[[column, distance]])


def test_the_curve_is_the_known_quadratic_within_its_range(study, final):
    """The made-up distances lie on base + bend (v - vertex)² within .001, and on what polyfit makes of them exactly."""
    for axes, regime in zip(scatter.kernel(study).axes[:3], REGIMES, strict=True):
        (curve,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        x, y = curve.get_data()
        rows = final[final["cell"].isin(CELLS[regime])]
        assert (x.min(), x.max()) == (rows[ACROSS].min(), rows[ACROSS].max())
        assert np.allclose(y, np.polyval(np.polyfit(rows[ACROSS], rows[KERNEL], 2), x), rtol=1e-6)
        base, bend, vertex = study_tables.CURVES[regime]
        assert np.abs(y - base - 0.2 / 40 - bend * (x - vertex) ** 2).max() < 0.003
        fitted = np.polyval(np.polyfit(rows[ACROSS], rows[KERNEL], 2), rows[ACROSS])
        assert f"R² {np.corrcoef(fitted, rows[KERNEL])[0, 1] ** 2:.2f}, F test p < .001" in axes.get_title()


def test_all_regimes_together(study, final):
    figure = scatter.together(study)
    for axes, (name, column) in zip(figure.axes, VARIANCES.items(), strict=True):
        names = [cell for regime in REGIMES for cell in CELLS[regime]]
        assert np.allclose(bars_of(axes), expected_bars(final, names, column, KERNEL))
        assert axes.get_xlabel() == f"gradient variance,\n{name}"
        legend = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [text.split(":")[0] for text in legend] == list(REGIMES)
        assert all("R² " in text and "p < .001" in text for text in legend)
        assert len([line for line in axes.lines if line.get_linestyle() == "--"]) == 3


def test_extensions_lie_over_their_regime_and_its_baseline_is_circled(study, final):
    vanilla, small = scatter.extensions(study).axes[:2]
    added = ["N_t 20", "N_t 30", "K 40", "η 2", "η 4"]
    for axes, regime, over, baseline in (
        (vanilla, "vanilla", ["width 16"], "batch 75"),
        (small, "0 < p ≤ 1", added, "p 0.1"),
    ):
        assert np.allclose(bars_of(axes), expected_bars(final, CELLS[regime] + over, ACROSS, KERNEL))
        circles = [line.get_xydata()[0] for line in axes.lines if line.get_fillstyle() == "none"]
        assert np.allclose(circles, final.loc[final["cell"] == baseline, [ACROSS, KERNEL]].mean())
        assert [text.get_text() for text in axes.get_legend().get_texts()] == over


@pytest.mark.parametrize(("draw", "column", "scale"), [(cost.time, "seconds", 1e3), (cost.flops, "flops", 1.0)])
def test_costs_are_bars_in_all_and_for_each_update(study, final, draw, column, scale):
    names = [name for regime in REGIMES for name in CELLS[regime]] + [
        "N_t 20",
        "N_t 30",
        "K 40",
        "η 2",
        "η 4",
        "width 16",
    ]
    each = final.assign(each=final[column] * scale / final["updates"])
    for axes, value in zip(draw(study).axes, (column, "each"), strict=True):
        bars = [container for container in axes.containers if isinstance(container, BarContainer)]
        by_cell = each.groupby("cell")[value]
        assert np.allclose([bar.patches[0].get_width() for bar in bars], by_cell.mean()[names])
        segments = [bar.errorbar.lines[2][0].get_segments()[0][:, 0] for bar in bars]
        assert np.allclose(np.diff(segments)[:, 0] / 2, by_cell.std()[names])


def curve_of(axes, label: str) -> np.ndarray:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line.get_xydata()


@pytest.mark.parametrize(
    ("draw", "column", "label"),
    [
        (curves.loss, "train/loss", "training loss\n(each objective's own)"),
        (curves.loss, "val/short_run_nll", "short-run -log evidence\n(nats, held-out images)"),
        (curves.variance, ACROSS, "gradient variance,\nacross parameters"),
        (
            curves.variance,
            "gradient_variance/test/per_parameter/total/both",
            "gradient variance,\nper parameter\n(test images)",
        ),
        (curves.fidelity, KERNEL, "KD[classifier:digits]∞\nto test images"),
        (curves.fidelity, FRECHET.replace("/test/", "/train/"), "FD[classifier:digits]∞\nto training images"),
    ],
)
def test_curves_are_means_over_repetitions_at_each_epoch(study, folder, draw, column, label):
    results = pd.read_csv(folder / "results.csv")
    figure = draw(study)
    row = next(k for k, axes in enumerate(figure.axes) if axes.get_ylabel() == label)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == [*REGIMES, "extensions"]
    panels = dict(zip(("p = 0.3", "η 4"), (figure.axes[row + 1], figure.axes[row + 3]), strict=True))
    if row == 0:  # the first row is followed by its legends
        panels = dict(zip(("p = 0.3", "η 4"), [axes for axes in figure.axes if axes.get_title()][1::2], strict=True))
    for (name, axes), cell in zip(panels.items(), ("p 0.3", "η 4"), strict=True):
        mean = results[results["cell"] == cell].groupby("epoch")[["updates", column]].mean()
        assert np.allclose(curve_of(axes, name), mean)
        assert axes.get_xlabel() == "parameter updates"


def test_fidelity_goes_with_variance_on_the_same_images(study, folder):
    results = pd.read_csv(folder / "results.csv")
    figure = curves.fidelity_variance(study)
    panels = [axes for axes in figure.axes if axes.get_ylabel()]
    labels = [(axes.get_xlabel().endswith("(test images)"), axes.get_ylabel().split("\n")[1]) for axes in panels]
    assert labels == [(False, "to training images")] * 3 + [(True, "to test images")] * 2
    for axes, column in ((panels[1], "gradient_variance"), (panels[3], "gradient_variance/test")):
        distance = KERNEL if column.endswith("test") else KERNEL.replace("/test/", "/train/")
        mean = (
            results[results["cell"] == "batch 50"]
            .groupby("epoch")[[f"{column}/per_parameter/total/both", distance]]
            .mean()
        )
        assert np.allclose(curve_of(axes, "batch 50"), mean)


def test_distances_at_equal_cost_lie_between_the_measurements_around_it():
    """Two cells with straight lines of distance in cost, measured at other costs."""
    rows = []
    for name, costs, slope in (("a", (1.0, 3.0, 5.0), 2.0), ("b", (2.0, 4.0, 6.0, 8.0), -1.0), ("c", (7.0, 9.0), 1.0)):
        for seed in (0, 1):
            whose = dict.fromkeys(IDENTITY, "") | {"cell": name, "run": f"{name}{seed}"}
            rows += [whose | {"x": x, "d": seed + slope * x} for x in costs]
    cells = [tables.Cell(name, name, "vanilla", "vanilla", "", of) for name, of in pd.DataFrame(rows).groupby("cell")]
    budget = cost.at_budget(cells, "x", "d")
    assert budget.cost == 8  # covers b and c; 5 covers a and b
    assert {name: list(values) for name, values in budget.reached.items()} == {"b": [-8, -7], "c": [8, 9]}
    budget = cost.at_budget(cells[:2], "x", "d")
    assert budget.cost == 5
    assert {name: list(values) for name, values in budget.reached.items()} == {"a": [10, 11], "b": [-5, -4]}


def test_equal_updates_and_flops(study):
    figure = cost.equal(study)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels[::2] == ["parameter updates", "training FLOPs (nominal)"]
    assert labels[1] == "KD[classifier:digits]∞ at 800 updates"  # batch 150 has 400
    assert labels[3].endswith("FLOPs")
    assert [text.get_text() for text in figure.axes[1].texts] == ["not measured before and after it"]
    assert len(figure.axes[3].texts) == 0


def test_published_results_have_their_source_and_the_right_names():
    celeba = tables.published({"CelebA"})
    assert [study.dataset for study in celeba] == ["CelebA"]
    assert [study.dataset for study in tables.published({"Digits"})] == ["CIFAR10", "CelebA", "SVHN"]
    kernel, frechet = scatter.kernel(celeba[0]), scatter.frechet(celeba[0])
    assert kernel.axes[0].get_ylabel() == "KID-rbf∞\nto test images"
    assert frechet.axes[0].get_ylabel() == "the report's FID∞\n(no Fréchet distance)\nto test images"
    assert "R² 0.61" in kernel.axes[2].get_title()
    assert "x²: p = .009, vertex 0.36" in kernel.axes[2].get_title()
    for figure in (kernel, frechet, boxes.against_power(celeba[0]), scatter.extensions(celeba[0])):
        assert "Raj & Girolami 2024" in figure._supxlabel.get_text().replace("\n", " ")
    circles = [
        line.get_xdata()[0] for line in scatter.extensions(celeba[0]).axes[0].lines if line.get_fillstyle() == "none"
    ]
    assert circles == [pytest.approx(0.780, abs=5e-4)]  # p = .1: .780 in the report's table
