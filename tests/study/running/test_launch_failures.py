"""Launching: a run that fails is tried again, then told in one sentence while the others go on."""

import io
from pathlib import Path

import pytest

from tests.study import fake as study_fake
from tests.study.fake import PROGRAM
from tests.study.launched import faults, finish, marks, places
from thermoebm.study.running import folder, worker
from thermoebm.study.running.board import Board
from thermoebm.study.running.executors import Local
from thermoebm.study.running.launch import Launcher
from thermoebm.study.running.workers import Sharing


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_a_failure_is_tried_again_then_told_while_others_go_on(tmp_path):
    faults(tmp_path, s1="once", s2="always")
    code, said = finish(tmp_path)
    assert code == 1
    assert "5 of 6 runs done, 0 running, 1 failed" in said
    assert "cell, seed 1: failed and is tried again: the fault that was asked for." in said
    assert "cell, seed 2: FAILED: the fault that was asked for." in said
    failed = places(tmp_path)[2]
    assert folder.read(failed / "FAILED") == {"attempts": 2, "reason": "the fault that was asked for."}
    assert folder.state(failed) == folder.FAILED
    assert (failed / "log.txt").read_text().count("=== attempt") == 2
    faults(tmp_path)
    before = marks(tmp_path)
    code, said = finish(tmp_path)
    assert code == 0
    assert said.count("started") == 1
    assert before.items() <= marks(tmp_path).items()
    assert not (failed / "FAILED").exists()
    assert folder.read(failed / "DONE")["attempts"] == 3


class Executor:
    """Workers that end at once, each with the next status; those with ``done`` have written DONE before."""

    slots = 1

    def __init__(self, *ends: tuple[int, bool]) -> None:
        self.ends, self.started, self.sharing = list(ends), 0, Sharing(1, None)

    def start(self, place: Path) -> int:
        status, done = self.ends[self.started]
        self.started += 1
        if done:
            folder.write(place / "DONE", {"seconds": 1.0})
        return status

    def poll(self, handle: int) -> int:
        return handle

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("ends", "status", "failed"),
    [
        (((worker.BUSY, False),) * 3 + ((0, True),), 0, False),  # held by another process, which is no failure
        (((1, True),), 0, False),  # broke down after DONE
        (((0, False),) * 2, 1, True),  # left without DONE, whatever it says
        (((worker.DAMAGED, False),), 1, True),
    ],
)
def test_what_a_worker_leaves_counts_and_not_only_its_status(tmp_path, monkeypatch, ends, status, failed):
    monkeypatch.setattr("thermoebm.study.running.launch._LOOK_AGAIN", 0.0)
    monkeypatch.setattr("thermoebm.study.running.launch._LOOK", 0.0)
    made, executor, out = study_fake.study(1), Executor(*ends), io.StringIO()
    study_fake.prepare(tmp_path, made)
    assert Launcher(made, tmp_path, executor, Board(made, tmp_path, 1, stream=out)).run() == status
    assert executor.started == len(ends)
    assert ("FAILED" in out.getvalue()) == failed
    assert folder.state(places(tmp_path)[0]) == (folder.FAILED if failed else folder.DONE)


def test_a_full_disk_fails_the_run_with_its_sentence(tmp_path):
    faults(tmp_path, s0="full")
    code, said = finish(tmp_path, count=3)
    assert code == 1
    assert "seed 0: FAILED: OSError: [Errno 28] No space left on device" in said
    assert "2 of 3 runs done" in said


def test_a_launcher_that_cannot_write_goes_on(tmp_path, monkeypatch):
    made = study_fake.study(2)
    study_fake.prepare(tmp_path, made)
    places(tmp_path)[0].joinpath("log.txt").mkdir()  # as bad as a full disk
    monkeypatch.setattr(folder, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    out = io.StringIO()
    assert Launcher(made, tmp_path, Local(1, 1, program=PROGRAM), Board(made, tmp_path, 1, stream=out)).run() == 1
    assert "seed 0: FAILED: [Errno" in out.getvalue()
    assert folder.state(places(tmp_path)[1]) == folder.DONE


@pytest.mark.parametrize("name", ["DONE", "run.json", "FAILED", "attempts.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]", "\udcff"])
def test_a_damaged_directory_is_told_in_a_sentence_and_left_as_it_is(tmp_path, name, content):
    study_fake.prepare(tmp_path, study_fake.study(2))
    damaged = places(tmp_path)[0] / name
    damaged.write_bytes(content.encode(errors="surrogateescape"))
    made, out = study_fake.study(2), io.StringIO()
    assert Launcher(made, tmp_path, Local(2, 1, program=PROGRAM), Board(made, tmp_path, 2, stream=out)).run() == 1
    (told,) = [line for line in out.getvalue().splitlines() if "seed 0: FAILED" in line]
    assert told.endswith(f"{damaged} is damaged; move {damaged.parent} away and run the study again.")
    assert "tried again" not in out.getvalue()
    assert name == "FAILED" or damaged.read_bytes() == content.encode(errors="surrogateescape")
    assert folder.state(places(tmp_path)[1]) == folder.DONE
