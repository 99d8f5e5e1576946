"""Where runs are executed: cores, GPUs, and runs that share one."""

import io
import sys

import pytest

from tests.study import fake as study_fake
from tests.study.launched import wait_for
from thermoebm.study.planning.definitions import StudyError
from thermoebm.study.running import folder, launch
from thermoebm.study.running.board import Board
from thermoebm.study.running.executors import Local
from thermoebm.study.running.workers import Sharing


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_cores_are_divided_and_never_shared_by_more_threads_than_there_are(monkeypatch):
    monkeypatch.setattr("thermoebm.study.running.executors.cores", lambda: 8)
    assert [(e.slots, e.threads) for e in (Local(), Local(jobs=2), Local(threads=4), Local(3, 5))] == [
        (8, 1),
        (2, 4),
        (2, 4),
        (3, 5),
    ]
    for jobs, threads in ((0, None), (None, 0), (-1, None)):
        with pytest.raises(StudyError, match="must be at least 1"):
            Local(jobs, threads)


def test_each_worker_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("thermoebm.study.running.executors.gpus", lambda: ["3", "5"])
    monkeypatch.setattr("thermoebm.study.running.executors.cores", lambda: 8)
    program = (sys.executable, "-c", "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(.2)")
    executor = Local(program=program)
    assert (executor.slots, executor.threads) == (2, 4)
    handles = []
    for name in "ab":
        (tmp_path / name).mkdir()
        handles.append(executor.start(tmp_path / name))
    wait_for(lambda: executor.poll(handles[0]) is not None)
    (tmp_path / "c").mkdir()
    third = executor.start(tmp_path / "c")
    wait_for(lambda: executor.poll(third) is not None)
    assert [(tmp_path / name / "log.txt").read_text().strip() for name in "abc"] == ["3", "5", "3"]
    executor.close()


# Runs that share a GPU


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs of 80 GB, and eight cores."""
    for name, value in (("gpus", ["3", "5"]), ("cores", 8), ("gpu_memory", 80 * 10**9)):
        monkeypatch.setattr(f"thermoebm.study.running.executors.{name}", lambda value=value: value)


@pytest.mark.parametrize(
    ("peak", "runs", "said"),
    # A run needs 1.25 of its peak and a gigabyte.
    [
        (0.9e9, 3, None),
        (20e9, 3, None),
        (21e9, 2, "A run needs 27.2 GB of a GPU's 80.0 GB: 2 of 3 runs share a GPU."),
        (70e9, 1, "A run needs 88.5 GB of a GPU's 80.0 GB: 1 of 3 runs share a GPU."),
    ],
)
def test_runs_share_a_gpu_as_far_as_one_was_seen_to_leave_room(two_gpus, peak, runs, said):
    executor = Local(runs_per_gpu=3)
    assert (executor.slots, executor.threads) == (2, 1)  # until a run's memory has been seen
    assert executor.sharing.see(peak) == said
    assert executor.slots == 2 * runs
    assert executor.sharing.see(peak / 2) is None  # a smaller one changes nothing
    assert executor.slots == 2 * runs


def test_where_a_part_of_a_gpu_is_given_once_runs_share_from_the_start():
    """As with Ray; earlier runs that leave no room are heeded."""
    sharing = Sharing(3, 80 * 10**9, waits=False)
    assert (sharing.runs, sharing.undecided) == (3, False)
    assert sharing.see(21e9) == "A run needs 27.2 GB of a GPU's 80.0 GB: 2 of 3 runs share a GPU."
    assert sharing.runs == 2
    assert Sharing(3, None).runs == 3


def test_without_sharing_nothing_is_waited_for(two_gpus):
    assert (Local().slots, Local(jobs=5).slots) == (2, 5)
    assert Local().sharing.see(70e9) is None


def test_sharing_spreads_over_the_gpus(tmp_path, two_gpus):
    program = (sys.executable, "-c", "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(1)")
    executor = Local(runs_per_gpu=2, program=program)
    executor.sharing.see(1e9)
    handles = []
    for name in "abcd":
        (tmp_path / name).mkdir()
        handles.append(executor.start(tmp_path / name))
    wait_for(lambda: all(executor.poll(handle) is not None for handle in handles[:1]))
    executor.close()
    assert [(tmp_path / name / "log.txt").read_text().strip() for name in "abcd"] == ["3", "5", "3", "5"]


def test_impossible_sharing_is_told(monkeypatch, two_gpus):
    with pytest.raises(StudyError, match="--runs-per-gpu is 0; it must be at least 1"):
        Local(runs_per_gpu=0)
    monkeypatch.setattr("thermoebm.study.running.executors.gpus", list)
    with pytest.raises(StudyError, match="--runs-per-gpu is 2, and there is no GPU here"):
        Local(runs_per_gpu=2)


def test_the_memory_that_a_run_logged_last(tmp_path):
    """Of its newest training; rows without it, and lines cut short by a crash, are passed over."""
    assert folder.peak_memory(tmp_path) is None
    assert folder.epoch(tmp_path) == 0
    for number, rows in (("0", ["1,0,5e9"]), ("1", ["1,0,", "2,0,1e9", "3,0,", "4,1,2e9", "5,1,", "6,"])):
        (tmp_path / number).mkdir()
        (tmp_path / number / "metrics.csv").write_text("\n".join(["step,epoch,cost/peak_memory", *rows]))
    assert folder.peak_memory(tmp_path) == 2e9
    assert folder.epoch(tmp_path) == 2
    (tmp_path / "1" / "metrics.csv").write_text("step,epoch\n1,0\n")
    assert folder.peak_memory(tmp_path) is None


def test_a_study_starts_further_runs_on_a_gpu_once_it_has_seen_one(tmp_path, two_gpus, monkeypatch, capsys):
    """Eight fake runs, of which three are to share each GPU and two fit: from two at a time to four."""
    monkeypatch.setattr(launch, "_LOOK_AGAIN", 0.0)
    made = study_fake.study(8)
    study_fake.prepare(tmp_path, made)
    study_fake.slow(tmp_path, 0.3)
    executor = Local(threads=1, runs_per_gpu=3, program=study_fake.PROGRAM)
    monkeypatch.setattr(folder, "peak_memory", lambda run: 21e9 if (run / "DONE").exists() else None)
    at_once, start = [], executor.start

    def counted(run):
        handle = start(run)
        at_once.append((len(executor._running), executor.sharing.undecided))
        return handle

    executor.start = counted
    assert launch.Launcher(made, tmp_path, executor, Board(made, tmp_path, 2, stream=io.StringIO())).run() == 0
    assert max(count for count, undecided in at_once if undecided) == 2
    assert max(count for count, undecided in at_once if not undecided) == 4
    assert capsys.readouterr().out.strip() == "A run needs 27.2 GB of a GPU's 80.0 GB: 2 of 3 runs share a GPU."
