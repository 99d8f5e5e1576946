"""What is shown of a study."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.study import fake as study_fake
from tests.study.fake import EPOCHS
from tests.study.launched import places
from thermoebm.study.planning.definitions import Run
from thermoebm.study.running import folder
from thermoebm.study.running.board import Board, status


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


# What is shown


def finish(board: Board, run: Run, seconds: float) -> None:
    folder.write(board.output / "runs" / run.hash / "DONE", {"seconds": seconds})
    board.done(run)


def board_of(output: Path, costs: tuple[float, ...]) -> Board:
    """Runs of a cell each, of these costs."""
    made = study_fake.study(len(costs))
    made = replace(made, runs=tuple(replace(run, cell=f"cell {run.seed}") for run in made.runs))
    study_fake.prepare(output, made)
    return Board(made, output, 2, dict(zip(made.runs, costs, strict=True)).__getitem__)


def test_time_left_follows_from_finished_runs_and_costs(tmp_path):
    board = board_of(tmp_path, (1.0, 3.0, 2.0, 6.0))
    made = board.study
    assert board.seconds_left() is None
    for run, seconds in zip(made.runs[:2], (10.0, 30.0), strict=True):
        finish(board, run, seconds)
    assert board.seconds_left() == pytest.approx(10 * (2 + 6) / 2)
    board.started(made.runs[3])
    board.running[made.runs[3]] -= 40
    assert board.seconds_left() == pytest.approx(10 * (2 + 6 - 4) / 2, abs=0.1)
    board.fail(made.runs[2], "why")
    assert board.seconds_left() == pytest.approx(10 * (6 - 4) / 2, abs=0.1)
    assert board.summary() == "fake: 2 of 4 runs done, 1 running, 1 failed, about 10 s left"


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ((12.0, 16.0), 10 + 2 * 6),  # the line 10 + 2 cost: a start-up that all share
        ((10.0, 50.0), 60 / 4 * 6),  # no line starts below nothing
        ((30.0, 10.0), 40 / 4 * 6),  # nor does one fall
    ],
)
def test_time_left_knows_that_starting_takes_time_too(tmp_path, taken, left):
    board = board_of(tmp_path, (1.0, 3.0, 6.0))
    for run, seconds in zip(board.study.runs[:2], taken, strict=True):
        finish(board, run, seconds)
    assert board.seconds_left() == pytest.approx(left / 2)


def test_time_left_of_a_cell_with_finished_runs_is_theirs(tmp_path):
    made = study_fake.study(4)
    made = replace(made, runs=(*made.runs[:2], *(replace(run, cell="other") for run in made.runs[2:])))
    study_fake.prepare(tmp_path, made)
    board = Board(made, tmp_path, 1)
    finish(board, made.runs[0], 10.0)
    finish(board, made.runs[2], 70.0)
    assert board.seconds_left() == pytest.approx(10 + 70)
    finish(board, made.runs[1], 10.0)
    assert board.seconds_left() == pytest.approx(70)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_table_is_redrawn_in_place(tmp_path):
    made, out = study_fake.study(3), Terminal()
    study_fake.prepare(tmp_path, made)
    board = Board(made, tmp_path, 2, stream=out)
    board.started(made.runs[0])
    board.show()
    first = out.getvalue()
    assert first.splitlines()[0].startswith("fake: 0 of 3 runs done, 1 running")
    assert first.splitlines()[1].startswith(f"  running  cell, seed 0: epoch 0 of {EPOCHS}, 0 s")
    board.fail(made.runs[0], "why")
    board.show()
    second = out.getvalue().removeprefix(first)
    assert second.startswith("\033[2A\033[J")  # up by the two lines that were drawn
    assert "cell, seed 0: FAILED: why" in second
    board.show()
    assert out.getvalue() == first + second  # nothing new, and not yet time


def test_status_counts_by_cell_and_names_what_failed(tmp_path):
    from thermoebm.study.planning.definitions import Cell, Study

    made = study_fake.study(4)
    made = Study("fake", made.path, (Cell("cell", "batch", None),), made.seeds, 1, made.runs)
    study_fake.prepare(tmp_path, made)
    one, two, three, _ = places(tmp_path)
    folder.write(one / "DONE", {"seconds": 1})
    folder.write(two / "FAILED", {"reason": "the energy ran away."})
    (three / "DONE").touch()
    lines = status(made, tmp_path)
    assert lines[0].split() == ["cell", "done", "running", "failed", "missing"]
    assert lines[1].split() == ["cell", "1", "2", "1"]
    assert lines[2].split() == ["all", "1", "0", "2", "1"]
    assert "cell, seed 1: the energy ran away." in lines
    assert any(line.startswith("cell, seed 2: ") and "DONE is damaged; move" in line for line in lines)


def test_markers_are_whole_or_absent(tmp_path, monkeypatch):
    folder.write(tmp_path / "DONE", {"seconds": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        folder.write(tmp_path / "DONE", {"seconds": 2})
    assert folder.read(tmp_path / "DONE") == {"seconds": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["DONE"]
