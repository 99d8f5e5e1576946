"""The files of a study's figures, its pictures, and what is said where something is missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.study import tables as study_tables
from thermoebm.runs.logged import VARIANCES
from thermoebm.study.figures import drawing as figures
from thermoebm.study.figures import style, tables

KERNEL = f"fidelity/test/{study_tables.KERNEL}_inf"


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


def test_runs_without_a_finite_distance_are_named(folder, capsys, monkeypatch):
    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table.index[0], KERNEL] = np.inf
        return table

    change(folder, "final.csv", spoil)
    cell = pd.read_csv(folder / "final.csv")["cell"].iloc[0]
    _, told = drawn(folder, capsys, monkeypatch)
    assert f"runs left out, as their {KERNEL} is not finite: {cell} (seed 0)." in told


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
    "losses": (lambda name: name in ("train/loss", "val/short_run_nll"), {"09"}, "no loss was logged"),
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
    with pytest.raises(ValueError, match=r"final\.csv has no column study; collect again"):
        figures.draw(folder)
