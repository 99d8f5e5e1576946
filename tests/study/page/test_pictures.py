"""Figures and samples on a study's page are the files' own, few enough for a page, and what is left out is said."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.study.folder import CELLS, EPOCHS, FIGURES, grid
from tests.study.page.html_tree import by_id, text, tree
from thermoebm.study import figures as drawn
from thermoebm.study import page
from thermoebm.study.page import pictures as page_pictures


def picture(uri):
    """The image of a data URI."""
    head, _, content = uri.partition(";base64,")
    assert head in ("data:image/png", "data:image/webp")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def sample_data(root):
    return json.loads(by_id(root, "sample-data").text)


def test_figures_are_the_files_with_captions(made):
    folder, _, root = made
    figures = list(by_id(root, "figures").iter("figure"))
    stems = [stem for stem in FIGURES if stem != "01-schedules"]  # which is the main one, in the summary
    assert len(figures) == len(stems)
    for stem, figure in zip(stems, figures, strict=True):
        image = figure.find(".//img")
        assert base64.b64decode(image.get("src").partition(",")[2]) == (folder / "figures" / f"{stem}.png").read_bytes()
        assert (int(image.get("width")), int(image.get("height"))) == (320, 240)
        assert image.get("alt").startswith(text(figure.find("figcaption/strong")))
    assert text(figures[-1].find(".//strong")) == "Kernel distance against gradient variance (published)"
    assert text(by_id(root, "figures").find("h3")) == "The published results, drawn alike"


@pytest.mark.parametrize(
    ("drawn", "main"),
    [
        ([], "01-schedules"),
        (["05-kernel-variance"], "05-kernel-variance"),
        (["05-kernel-variance", "10-kernel-variance-together-MNIST"], "10-kernel-variance-together-MNIST"),
    ],
)
def test_the_main_figure_is_in_the_summary_and_nowhere_else(study, drawn, main):
    """The best that there is; never one of the published results."""
    for stem in drawn:
        grid(study / "figures" / f"{stem}.png", stem)
    root = tree(page.write(study).read_text())
    (figure,) = by_id(root, "summary").iter("figure")
    assert text(figure.find(".//strong")) == page_pictures.caption(main)[0]
    others = [text(figure.find(".//strong")) for figure in by_id(root, "figures").iter("figure")]
    assert sorted(others) == sorted(page_pictures.caption(stem)[0] for stem in {*FIGURES, *drawn} - {main})


def test_every_figure_of_a_study_has_a_caption():
    stems = list(drawn.FIGURES)
    assert {*stems, "12-frechet-variance-published"} == set(page_pictures.CAPTIONS)
    assert len({page_pictures.caption(stem)[0] for stem in stems}) == len(stems)
    assert page_pictures.caption("05-kernel-variance-MNIST")[0] == "Kernel distance against gradient variance (MNIST)"
    # What the report's code calls FID is no Fréchet distance, of whichever data set.
    assert page_pictures.caption("12-frechet-variance-published-SVHN")[0].startswith("The report's FID against")
    assert page_pictures.caption("12-frechet-variance-SVHN")[0].startswith("Fréchet distance")
    assert page_pictures.caption("05-kernel-variances") == ("05 kernel variances", "")


def test_samples_are_those_of_one_run_of_each_cell(made):
    """Pixel by pixel those of the first seed, in the order of the epochs, with that epoch's distance."""
    folder, _, root = made
    data = sample_data(root)
    assert [run["name"] for run in data] == [f"{cell}, seed 0" for _, cell, _ in CELLS]
    for index, run in enumerate(data):
        assert [epoch for epoch, _, _ in run["pictures"]] == list(EPOCHS)
        for epoch, uri, note in run["pictures"]:
            file = folder / "runs" / f"{2 * index:02d}e4567" / "0" / "samples" / f"epoch-{epoch:04d}.png"
            assert np.array_equal(np.asarray(picture(uri)), np.asarray(Image.open(file)))
            assert note == f"kernel distance (test) {1 / epoch:.4g}"
    total = 3 * 2 * len(CELLS)
    note = f"with {total // 2} of the {total} grids. The rest, those of {len(CELLS)} further runs among them"
    assert note in text(by_id(root, "samples"))


def test_samples_are_of_the_run_that_has_most(study):
    """A second seed that went on for longer is shown instead."""
    grid(study / "runs" / "01e4567" / "0" / "samples" / "epoch-0040.png", "late")
    (first, *_) = sample_data(tree(page.write(study).read_text()))
    assert first["name"] == "batch 25, seed 1"
    assert [epoch for epoch, _, _ in first["pictures"]] == [*EPOCHS, 40]


@pytest.mark.parametrize("budget", [0, 30_000, 10**9])
def test_epochs_are_thinned_to_the_budget(study, budget):
    """First and last stay whatever they take; otherwise what is shown fits, and one epoch more would not."""
    cells = len(CELLS)
    samples = study / "runs" / "00e4567" / "0" / "samples"
    for epoch in range(40, 600, 10):
        grid(samples / f"epoch-{epoch:04d}.png", str(epoch))
    size = max(len(page_pictures.data_uri(path)[0]) for path in samples.iterdir())
    room = page_pictures.FULL._replace(samples=budget)
    (first, *_) = sample_data(tree(page.write(study, room).read_text()))
    epochs = [epoch for epoch, _, _ in first["pictures"]]
    assert (epochs[0], epochs[-1]) == (10, 590)
    spent = sum(len(uri) for _, uri, _ in first["pictures"])
    assert len(epochs) == 2 or spent <= budget / cells
    assert len(epochs) == page_pictures.MOST_EPOCHS or spent + 1.2 * size > budget / cells
    gaps = np.diff(epochs)
    assert len(epochs) < 4 or gaps.max() - gaps.min() <= 40


def test_evenly_spaced():
    assert page_pictures.evenly([1, 2, 3], 5) == [1, 2, 3]
    assert page_pictures.evenly(list(range(11)), 2) == [0, 10]
    assert page_pictures.evenly(list(range(11)), 6) == [0, 2, 4, 6, 8, 10]


def test_large_pictures_are_compressed_and_look_the_same(tmp_path):
    """Ripples of ±60 in colour with a little noise: a quarter of the bytes, and 3 grey levels off on average."""
    y, x = np.mgrid[0:256, 0:256]
    ripples = 100 + 60 * np.sin(x / 2) * np.sin(y / 3) + np.random.default_rng(0).normal(0, 2, (256, 256))
    pixels = np.stack([ripples, 0.8 * ripples, 0.6 * ripples], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    uri, *size = page_pictures.data_uri(tmp_path / "a.png")
    assert size == [256, 256]
    assert len(uri) < (tmp_path / "a.png").stat().st_size / 4
    difference = np.asarray(picture(uri).convert("RGB")).astype(float) - pixels
    assert np.abs(difference).mean() < 3


def test_a_small_page_has_pictures_as_wide_as_they_are_shown(study):
    """Each is that of the full page, reduced: 2 grey levels off on average where nothing is finer than its pixels."""
    y, x = np.mgrid[0:900, 0:1800]
    waves = np.stack([128 + 60 * np.sin(x / 90) * np.sin(y / 60)] * 3, 2).astype(np.uint8)
    Image.fromarray(waves).save(study / "figures" / "01-schedules.png")
    full, small = (tree(page.write(study, room).read_text()) for room in (page_pictures.FULL, page_pictures.SMALL))
    shown, reduced = (next(by_id(root, "summary").iter("img")) for root in (full, small))
    assert (shown.get("width"), reduced.get("width"), reduced.get("height")) == ("1800", "720", "360")
    image = picture(reduced.get("src"))
    assert image.size == (720, 360)
    expected = np.asarray(Image.fromarray(waves).resize((720, 360), Image.Resampling.BOX)).astype(float)
    assert np.abs(np.asarray(image.convert("RGB")) - expected).mean() < 2
    assert len(reduced.get("src")) < len(shown.get("src")) / 4
    assert [run["name"] for run in sample_data(small)] == [run["name"] for run in sample_data(full)]


def test_figures_beyond_the_limit_are_named(study):
    limit = len(page_pictures.data_uri(study / "figures" / "01-schedules.png")[0])
    root = tree(page.write(study, page_pictures.FULL._replace(figures=limit)).read_text())
    shown = by_id(root, "figures")
    assert [
        text(figure.find(".//strong")) for figure in root.iter("figure") if figure.find(".//strong") is not None
    ] == ["Temperature schedules"]
    for stem in FIGURES[1:]:
        assert f"{stem}.png is left out" in text(shown)
