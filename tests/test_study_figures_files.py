"""The files of a study's figures, its pictures, and what is said where something is missing."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from torchvision.utils import save_image

from tests import study_tables
from thermoebm import runs
from thermoebm.callbacks.pictures import image_grid
from thermoebm.schedules import power_law
from thermoebm.study import figures
from thermoebm.study.columns import VARIANCES
from thermoebm.study.figures import integrand, labels, samples, style, tables

KERNEL = f"fidelity/test/{study_tables.KERNEL}_inf"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A study with a few cells."""
    study_tables.write(tmp_path, study_tables.FEW)
    return tmp_path


@pytest.fixture
def whole(tmp_path) -> Path:
    """A study with all cells."""
    study_tables.write(tmp_path)
    return tmp_path


def change(folder: Path, name: str, changed) -> None:
    """Rewrites a table of a study with ``changed(table)``."""
    changed(pd.read_csv(folder / name)).to_csv(folder / name, index=False)


def drawn(folder: Path, capsys, monkeypatch) -> tuple[set[str], str]:
    """Stems of the figures that can be drawn, without laying them out, and what is said of the others."""
    stems = set()

    def keep(figure: Figure, to: Path, stem: str) -> list[Path]:
        assert figure.axes
        assert any(axes.has_data() for axes in figure.axes)
        stems.add(stem)
        return []

    monkeypatch.setattr(style, "save", keep)
    assert figures.draw(folder, with_published=False) == []
    return stems, capsys.readouterr().out


WITHOUT_CHECKPOINTS = set(figures.FIGURES) - {"02-integrand"}


def test_files_are_png_and_pdf_and_not_blank(folder, monkeypatch):
    """And drawing again changes no byte."""
    few = {stem: figures.FIGURES[stem] for stem in ("03-variance-batch", "07-samples")}
    monkeypatch.setattr(figures, "FIGURES", few)
    paths = figures.draw(folder, with_published=False)
    assert paths == [folder / "figures" / f"{stem}.{kind}" for stem in few for kind in ("png", "pdf")]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in figures.draw(folder, with_published=False)] == before
    for path in paths[::2]:
        picture = imread(path)[..., :3]
        assert min(picture.shape[:2]) > 400
        assert 0.01 < (picture < 0.9).any(-1).mean() < 0.9
    for content in before[1::2]:
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content  # text is text


def test_the_data_set_is_a_suffix_where_there_are_several(folder, capsys, monkeypatch):
    for name in ("results.csv", "final.csv"):
        change(folder, name, lambda table: pd.concat([table, table.assign(dataset="MNIST", run=table["run"] + "m")]))
    monkeypatch.setattr(figures, "FIGURES", {"03-variance-batch": figures.FIGURES["03-variance-batch"]})
    assert drawn(folder, capsys, monkeypatch)[0] == {"03-variance-batch-Digits", "03-variance-batch-MNIST"}


def test_everything_is_drawn_of_a_whole_study(whole, capsys, monkeypatch):
    stems, said = drawn(whole, capsys, monkeypatch)
    assert stems == WITHOUT_CHECKPOINTS
    (line,) = said.splitlines()
    assert line == "figures: 02-integrand is left out: no run with a temperature schedule has a checkpoint."


def test_published_counterparts_have_a_name_of_their_own(tmp_path, monkeypatch):
    stems = []
    monkeypatch.setattr(style, "save", lambda figure, folder, stem: stems.append(stem) or [folder / stem])
    assert len(figures.draw_published(tmp_path, {"CelebA"})) == 6
    assert stems == [f"{stem}-published" for stem in figures.PUBLISHED]
    stems.clear()
    figures.draw_published(tmp_path, {"Digits"})
    assert "05-kernel-variance-published-SVHN" in stems
    assert "06-extensions-published-SVHN" not in stems


LOST = {
    "the kernel distance": (lambda name: "KD[" in name, {"05", "06", "10", "23", "24"}, "no kernel distance"),
    "the Fréchet distance": (lambda name: "FD[" in name, {"12"}, "no Fréchet distance"),
    "variances": (
        lambda name: "gradient_variance" in name,
        {"03", "04", "05", "06", "10", "12", "21", "23"},
        "variance",
    ),
    "costs": (lambda name: name in ("seconds", "flops"), {"14", "15"}, "no run has its seconds"),
    "losses": (lambda name: name in ("train/loss", "val/nll"), {"09"}, "no loss was logged"),
    "folders": (lambda name: name == "folder", {"07"}, "no run has samples"),
}


@pytest.mark.parametrize(("of", "left_out", "said_of"), LOST.values(), ids=LOST)
def test_a_missing_column_costs_only_the_figures_that_need_it(folder, capsys, monkeypatch, of, left_out, said_of):
    """Absent from one table, and without a number in the other."""
    for name in ("results.csv", "final.csv"):
        table = pd.read_csv(folder / name)
        lost = [column for column in table if of(column)]
        table = table.drop(columns=lost) if name == "results.csv" else table.assign(**dict.fromkeys(lost, np.nan))
        table.to_csv(folder / name, index=False)
    stems, said = drawn(folder, capsys, monkeypatch)
    assert {stem[:2] for stem in WITHOUT_CHECKPOINTS - stems} == left_out
    assert said_of in said
    for stem in WITHOUT_CHECKPOINTS - stems:
        assert said.count(f"{stem} is left out: ") == 1


def test_one_repetition_of_one_regime(folder, capsys, monkeypatch):
    """Points without error bars, no box has a width, and nothing is made up."""
    for name in ("results.csv", "final.csv"):
        change(folder, name, lambda table: table[(table["group"] == "batch") & (table["seed"] == 0)])
    stems, said = drawn(folder, capsys, monkeypatch)
    assert {stem[:2] for stem in WITHOUT_CHECKPOINTS - stems} == {"01", "04", "06"}
    assert "A box against the batch size has one repetition and no width." in said
    assert "04-variance-power is left out: no run varies the power p." in said


def test_too_few_runs_for_a_curve_are_told(folder, capsys, monkeypatch):
    for name in ("results.csv", "final.csv"):
        change(
            folder, name, lambda table: table[table["cell"].isin(["batch 25", "p 6", "p 0.1"]) & (table["seed"] == 0)]
        )
    stems, said = drawn(folder, capsys, monkeypatch)
    assert "05-kernel-variance" in stems
    assert "No curve for p > 1 against across_parameters/both: A quadratic needs at least 4 points" in said


def test_values_that_are_no_numbers_are_left_out(folder):
    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        column = VARIANCES["across parameters"]
        rows = table.index[table["cell"] == "p 6"]
        table[column] = table[column].astype(object)
        table.loc[rows[:2], column] = ["broken", np.inf]
        return table

    change(folder, "final.csv", spoil)
    (study,) = tables.read(folder)
    (cell,) = [cell for cell in tables.cells(study.final) if cell.name == "p 6"]
    assert len(cell.values(VARIANCES["across parameters"])) == 1
    (axes,) = [axes for axes in figures.scatter.kernel(study).axes[:3] if axes.get_title().startswith("p > 1")]
    runs_drawn = [len(line.get_xdata()) for line in axes.lines if line.get_alpha() == 0.25]
    assert runs_drawn == [1]


def test_runs_that_are_not_done_are_left_out(folder, capsys, monkeypatch):
    change(folder, "final.csv", lambda table: table.assign(status=np.where(table["seed"] == 2, "failed", "done")))
    (study,) = tables.read(folder)
    assert set(study.final["seed"]) == set(study.results["seed"]) == {0, 1}
    assert study.remarks == ["5 of 15 runs are not done and left out."]
    change(folder, "final.csv", lambda table: table.assign(status="missing"))
    stems, said = drawn(folder, capsys, monkeypatch)
    assert not stems
    assert "no run is done: there is nothing to draw." in said


def test_one_table_is_enough_for_its_figures_and_none_is_told(folder, capsys, monkeypatch):
    kept = (folder / "final.csv").read_bytes()
    (folder / "final.csv").unlink()
    stems, said = drawn(folder, capsys, monkeypatch)
    assert {"03-variance-batch", "05-kernel-variance", "21-variance-iteration"} <= stems
    assert "There is no final.csv" in said
    (folder / "results.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither results\.csv nor final\.csv; collect the study first"):
        figures.draw(folder)
    (folder / "final.csv").write_bytes(kept)
    stems, said = drawn(folder, capsys, monkeypatch)
    assert "There is no results.csv" in said
    assert "21-variance-iteration is left out: no gradient variance was logged." in said
    (folder / "final.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"final\.csv has no column study; collect the study again"):
        figures.draw(folder)


def test_first_images_of_a_grid():
    images = torch.rand(100, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    grid = image_grid(images, 10).permute(1, 2, 0).numpy()
    corner = samples.first_images(grid, 6)
    assert corner.shape == (6 * 52 + 4, 6 * 52 + 4, 3)
    assert np.array_equal(corner, grid[:316, :316])
    assert np.array_equal(samples.first_images(grid, 20), grid)
    assert samples.first_images(grid[4:-4, 4:-4], 6).shape == (516, 516, 3)  # no white frame: nothing is cut


def test_samples_are_the_last_of_the_first_seed_with_that_run_s_distances(folder):
    run = folder / "runs" / "p6-0" / "0" / "samples"
    later = image_grid(torch.full((16, 1, 8, 8), 0.5), 4)
    save_image(later, run / "epoch-0050.png")
    shutil.rmtree(folder / "runs" / "batch25-0")
    (folder / "runs" / "p0.1-0" / "0" / "samples" / "epoch-0040.png").write_bytes(b"no picture")
    (study,) = tables.read(folder)
    panels = {axes.get_title(): axes for axes in samples.samples(study).axes}
    assert list(panels) == ["vanilla, batch 25", "vanilla, batch 75", "p = 0.1", "p = 6", "N_t 20"]
    assert np.allclose(panels["p = 6"].images[0].get_array(), later.permute(1, 2, 0), atol=1 / 255)
    assert any("p0.1-0/0/samples/epoch-0040.png is no picture" in remark for remark in study.remarks)
    for title, name in (("p = 6", "p6-0"), ("vanilla, batch 25", "batch25-1"), ("p = 0.1", "p0.1-1")):
        row = study.final.set_index("run").loc[name]
        text = panels[title].texts[0].get_text()
        assert text.startswith(f"KD[classifier:digits]∞ = {row[KERNEL]:.3g}\nFD[classifier:digits]∞ = ")
        shown = panels[title].images[0].get_array()
        picture = imread(sorted((folder / row["folder"] / "samples").glob("*.png"))[-1])[..., :3]
        assert np.array_equal(shown, picture)


def test_the_integrand_is_measured_once_on_held_out_images(whole, checkpoint, monkeypatch):
    """With the run of p nearest 6, as the model's own ladder has it; the bins are the trapezia of each power."""
    for name in ("p3-0", "p6-1"):
        (whole / "runs" / name / "0" / "checkpoints").mkdir()
        shutil.copy(checkpoint, whole / "runs" / name / "0" / "checkpoints" / "last.ckpt")
    (study,) = tables.read(whole)
    figure = integrand.integrand(study)
    model, data = runs.load_model(checkpoint), runs.load_data(checkpoint)
    images = data.held_out_images[:75].float() / 127.5 - 1
    t, ell = model.ladder(images, integrand.FINE, model.stream("integrand"))
    expected = ell.mean(-1).numpy()
    assert "the model of p 6, seed 1" in figure._supxlabel.get_text()
    for axes, power in zip(figure.axes, (0.1, 0.3, 1, 2, 3, 6, 10), strict=True):
        line, dots = axes.lines[-1], axes.lines[0]
        assert np.allclose(line.get_xdata(), t, rtol=1e-5)
        assert np.allclose(line.get_ydata(), expected, rtol=1e-4)
        edges = power_law(10, power).numpy()
        heights = np.interp(edges, t.numpy(), expected)
        assert np.allclose(dots.get_xdata(), edges)
        assert np.allclose(dots.get_ydata(), heights, rtol=1e-4)
        area = float((np.diff(edges) * (heights[1:] + heights[:-1]) / 2).sum())
        title, value = axes.get_title().split("\ntrapezium ")
        assert title == f"p = {power:g}"
        assert float(value.replace("−", "-").removesuffix(" nats")) == pytest.approx(area, abs=0.06, rel=1e-4)
        assert len(axes.collections) == 10
    monkeypatch.setattr(runs, "load_model", None)  # what was kept is read
    assert len(integrand.integrand(study).axes) == 7


def test_an_unreadable_checkpoint_is_told(folder):
    (folder / "runs" / "p6-0" / "0" / "checkpoints").mkdir()
    (folder / "runs" / "p6-0" / "0" / "checkpoints" / "last.ckpt").write_bytes(b"no checkpoint")
    (study,) = tables.read(folder)
    with pytest.raises(tables.Undrawable, match="is not a readable checkpoint"):
        integrand.integrand(study)


def test_labels_of_points_cover_neither_each_other_nor_a_stranger_s_point():
    """Five points in a heap: each label ends up nearest to its own point, apart from the others and on the axes."""
    figure = Figure(figsize=(2.5, 2.3))
    axes = figure.add_subplot()
    places = {
        "batch 25": (0.3, 0.3),
        "batch 50": (0.33, 0.31),
        "batch 75": (0.36, 0.3),
        "p = 6": (0.97, 0.97),
        "p": (0.02, 0),
    }
    for text, (x, y) in places.items():
        axes.add_artist(labels.PointLabel(text, x, y, 0.02, 0.01))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    labels.arrange(axes, renderer)
    boxes = {label.get_text(): label.get_window_extent(renderer) for label in axes.texts}
    assert sum(a.overlaps(b) for a in boxes.values() for b in boxes.values()) == len(boxes)
    frame = axes.get_window_extent(renderer)
    for text, box in boxes.items():
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1
        assert frame.y0 <= box.y0 <= box.y1 <= frame.y1
        pixels = {name: axes.transData.transform(place) for name, place in places.items()}
        away = {name: np.hypot(*(np.clip(at, box.min, box.max) - at)) for name, at in pixels.items()}
        assert min(away, key=away.get) == text


def test_ticks_have_room_for_their_labels():
    figure = Figure(figsize=(1.9, 1.8))
    axes = figure.add_subplot()
    axes.plot([0.00012, 0.00097], [0, 1])
    axes.ticklabel_format(scilimits=(-9, 9))
    renderer = FigureCanvasAgg(figure).get_renderer()
    labels.thin_ticks(axes, renderer)
    boxes = [text.get_window_extent(renderer) for text in axes.get_xticklabels()]
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
