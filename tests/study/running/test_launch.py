"""Launching: what is done stays and is never done again, whoever is killed.

Training is pretended (see tests/study/fake.py), processes, locks, signals and markers are real.
"""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.study import fake as study_fake
from tests.study.fake import EPOCHS, PROGRAM
from tests.study.launched import assert_complete, finish, marks, places, start, trained, wait_for, workers
from thermoebm.study.running import folder, worker
from thermoebm.study.running.board import Board
from thermoebm.study.running.executors import Local
from thermoebm.study.running.launch import Launcher


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_all_runs_are_done_once_and_a_second_launch_does_nothing(tmp_path):
    code, said = finish(tmp_path)
    assert code == 0
    assert "6 of 6 runs done, 0 running, 0 failed" in said
    assert_complete(tmp_path)
    assert all(trained(place) == list(range(EPOCHS)) for place in places(tmp_path))
    before = marks(tmp_path)
    code, said = finish(tmp_path)
    assert code == 0
    assert "started" not in said
    assert marks(tmp_path) == before
    assert len(before) == 6


@pytest.mark.parametrize("seed", range(3))
def test_launcher_and_workers_killed_at_random_lose_nothing_and_repeat_nothing(tmp_path, seed):
    rng = random.Random(seed)
    finished: dict[str, tuple[int, int, bytes]] = {}
    for attempt in range(40):  # four, or as many as a busy machine takes to finish a first run
        if attempt >= 4 and finished:
            break
        launcher = start(tmp_path, count=16)
        wait_for(lambda: workers(tmp_path) or launcher.poll() is not None)  # noqa: B023  (called here only)
        time.sleep(rng.uniform(0.1, 0.6))
        if alive := workers(tmp_path):
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(rng.choice(alive), signal.SIGKILL)
        time.sleep(rng.uniform(0.0, 0.3))
        launcher.kill()
        launcher.communicate()
        now = marks(tmp_path)
        assert finished.items() <= now.items()
        finished = now
    assert 0 < len(finished) < 16
    code, _ = finish(tmp_path, count=16)
    assert code == 0
    assert finished.items() <= marks(tmp_path).items()
    assert_complete(tmp_path)


def test_a_killed_worker_is_started_again_from_its_checkpoint_and_its_seconds_count(tmp_path):
    launcher = start(tmp_path, count=1)
    place = tmp_path / "runs" / f"{0:010x}"
    wait_for(lambda: (place / "trace").exists() and len(trained(place)) == 3)
    os.kill(workers(tmp_path)[0], signal.SIGKILL)
    said = launcher.communicate(timeout=60)[0]
    assert launcher.returncode == 0
    assert "tried again: it ended without a word" in said
    assert_complete(tmp_path)
    assert trained(place)[:4] in ([0, 1, 2, 2], [0, 1, 2, 3])
    done, attempts = folder.read(place / "DONE"), folder.read(place / "attempts.json")["attempts"]
    assert done["attempts"] == len(attempts) == 2
    assert done["seconds"] == pytest.approx(sum(a["ended"] - a["started"] for a in attempts), abs=0.02)
    assert attempts[0]["started"] <= attempts[0]["ended"] <= attempts[1]["started"]


def test_a_killed_attempt_ended_when_it_last_wrote_something(tmp_path):
    folder.write(tmp_path / "attempts.json", {"attempts": [{"started": 100.0}]})
    (tmp_path / "log.txt").touch()
    for name, written in (("attempts.json", 101), ("log.txt", 160)):
        os.utime(tmp_path / name, (written, written))
    assert worker._attempts(tmp_path) == [{"started": 100.0, "ended": 160.0}]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a process killed with its parent")
def test_workers_do_not_outlive_a_killed_launcher(tmp_path):
    study_fake.slow(tmp_path, 10)  # by themselves they would go on for long
    launcher = start(tmp_path)
    wait_for(lambda: len(workers(tmp_path)) == 2)
    launcher.kill()
    launcher.communicate()
    wait_for(lambda: not workers(tmp_path), seconds=2)  # an error when the time is over
    assert workers(tmp_path) == []
    assert not list(tmp_path.glob("runs/*/DONE"))  # they were ended, and did not finish


def test_two_launchers_share_the_runs_and_no_run_is_done_twice(tmp_path):
    both = [start(tmp_path, count=8), start(tmp_path, count=8)]
    assert [launcher.communicate(timeout=60) and launcher.returncode for launcher in both] == [0, 0]
    assert_complete(tmp_path)
    assert all(trained(place) == list(range(EPOCHS)) for place in places(tmp_path))


def test_a_run_that_another_process_holds_waits_for_it(tmp_path, monkeypatch):
    made = study_fake.study(2)
    study_fake.prepare(tmp_path, made)
    monkeypatch.setattr("thermoebm.study.running.launch._LOOK_AGAIN", 0.3)
    out = io.StringIO()
    board = Board(made, tmp_path, 1, stream=out)
    hold = f"import fcntl, time; f = open('{places(tmp_path)[0]}/lock', 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print()"
    holder = subprocess.Popen([sys.executable, "-c", f"{hold}; time.sleep(1.5)"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert folder.state(places(tmp_path)[0]) == folder.RUNNING
    assert Launcher(made, tmp_path, Local(1, 1, program=PROGRAM), board).run() == 0
    holder.communicate()
    assert "seed 0: another process works on it" in out.getvalue()
    assert_complete(tmp_path)


def test_a_worker_whose_run_is_held_leaves_it_alone(tmp_path, monkeypatch):
    study_fake.prepare(tmp_path, study_fake.study(1))
    (place,) = places(tmp_path)
    monkeypatch.setattr(worker, "_PATIENCE", 0.2)
    with folder.locked(place) as mine:
        assert mine
        assert worker.main(print, print, [str(place)]) == worker.BUSY
    assert not (place / "attempts.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_launcher_told_to_stop_ends_its_workers_and_says_so_by_its_status(tmp_path, number):
    study_fake.slow(tmp_path, 20)  # so that both still train
    launcher = start(tmp_path)
    wait_for(lambda: len([*tmp_path.glob("runs/*/trace")]) == 2)
    launcher.send_signal(number)
    said = launcher.communicate(timeout=20)[0]
    assert launcher.returncode == 128 + number
    assert "Traceback" not in said
    assert not workers(tmp_path)
    assert sum((place / "asked to end").exists() for place in places(tmp_path)) == 2
    study_fake.slow(tmp_path, study_fake.SECONDS)
    assert finish(tmp_path)[0] == 0
    assert_complete(tmp_path)
