"""What figures are made of: samples, the integrand, labels and ticks."""

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from torchvision.utils import save_image

from tests.study import tables as study_tables
from thermoebm.callbacks.pictures import image_grid
from thermoebm.runs import checkpoints
from thermoebm.schedules import power_law
from thermoebm.study.figures import integrand, labels, samples, tables

KERNEL = f"fidelity/test/{study_tables.KERNEL}_inf"


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
    model, data = checkpoints.load_model(checkpoint), checkpoints.load_data(checkpoint)
    images = data.held_out_images[:75].float() / 127.5 - 1
    t, ell = model.ladder(images, integrand.FINE, model.stream("integrand"))
    expected = ell.mean(-1).numpy()
    assert "the model of p 6, seed 1" in figure._supxlabel.get_text()
    *panels, rungs = figure.axes
    for axes, rung, power in zip(panels, rungs.lines, (0.1, 0.3, 1, 2, 3, 6, 10), strict=True):
        line, dots = axes.lines[-1], axes.lines[0]
        assert np.allclose(line.get_xdata(), t, rtol=1e-5)
        assert np.allclose(line.get_ydata(), expected, rtol=1e-4)
        edges = power_law(10, power).numpy()
        heights = np.interp(edges, t.numpy(), expected)
        assert np.allclose(dots.get_xdata(), edges)
        assert np.allclose(dots.get_ydata(), heights, rtol=1e-4)
        assert np.allclose(rung.get_xydata(), np.stack([range(11), heights], 1), rtol=1e-4)  # each can be seen
        assert (rung.get_label(), rung.get_color()) == (f"{power:g}", dots.get_color())
        area = float((np.diff(edges) * (heights[1:] + heights[:-1]) / 2).sum())
        title, value = axes.get_title().split("\ntrapezium ")
        assert title == f"p = {power:g}"
        assert float(value.replace("−", "-").removesuffix(" nats")) == pytest.approx(area, abs=0.06, rel=1e-4)
        assert len(axes.collections) == 10
    monkeypatch.setattr(checkpoints, "load_model", None)  # what was kept is read
    assert len(integrand.integrand(study).axes) == 8


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
