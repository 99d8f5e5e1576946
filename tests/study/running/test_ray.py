"""Runs on a real Ray cluster of two nodes, one of which is lost."""

import io
import signal
import threading
import time

import pytest

from tests.study import fake as study_fake
from tests.study.running.test_launch import assert_complete, places, trained
from thermoebm.study.planning.definitions import StudyError
from thermoebm.study.running import folder
from thermoebm.study.running.board import Board
from thermoebm.study.running.launch import Launcher

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, by the dozen


@pytest.fixture
def cluster(monkeypatch):
    """A head and another node, a CPU each, as processes of this machine."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'thermoebm[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup and & leave it to all that Ray starts
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    signal.signal(signal.SIGINT, before)
    yield made
    made.shutdown()


def test_runs_of_a_lost_node_are_resumed_on_another(tmp_path, cluster):
    from thermoebm.study.running.ray_executor import Ray

    node = cluster.add_node(num_cpus=1)
    made = study_fake.study(6)
    study_fake.prepare(tmp_path, made)
    study_fake.slow(tmp_path, 0.4)
    executor = Ray(address=cluster.address, program=study_fake.PROGRAM)
    assert executor.slots == 2
    out = io.StringIO()

    def lose() -> None:
        while sum((place / "0" / "checkpoints" / "last.ckpt").exists() for place in places(tmp_path)) < 2:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    losing = threading.Thread(target=lose)
    losing.start()
    assert Launcher(made, tmp_path, executor, Board(made, tmp_path, 2, stream=out)).run() == 0
    losing.join()
    assert "6 of 6 runs done, 0 running, 0 failed" in out.getvalue()
    assert_complete(tmp_path)
    attempts = [folder.read(place / "DONE")["attempts"] for place in places(tmp_path)]
    assert sorted(attempts) == [1, 1, 1, 1, 1, 2]
    interrupted = places(tmp_path)[attempts.index(2)]
    assert trained(interrupted)[0] == 0
    assert len({line.split()[0] for line in (interrupted / "trace").read_text().splitlines()}) == 2


def test_runs_are_asked_to_end_before_they_are_killed(tmp_path, cluster):
    """As SIGTERM asks a training, which then saves its last step."""
    from thermoebm.study.running.ray_executor import Ray

    study_fake.prepare(tmp_path, study_fake.study(1))
    study_fake.slow(tmp_path, 60)
    executor = Ray(address=cluster.address, program=study_fake.PROGRAM)
    (place,) = places(tmp_path)
    executor.start(place)
    until = time.monotonic() + 30
    while not (place / "trace").exists() and time.monotonic() < until:
        time.sleep(0.02)
    begun = time.monotonic()
    executor.close()
    assert time.monotonic() - begun < 10
    assert (place / "asked to end").exists()


def test_a_cluster_without_room_and_one_that_is_not_there_are_told(cluster):
    from thermoebm.study.running.ray_executor import Ray

    with pytest.raises(StudyError, match="no room for a run of 9 CPUs and 0 GPUs"):
        Ray(threads=9, address=cluster.address)
    with pytest.raises(StudyError, match="no room for a run of 1 CPUs and 1 GPUs"):
        Ray(threads=1, gpus=1, address=cluster.address)


def test_without_ray_a_sentence_says_what_to_install(monkeypatch):
    from thermoebm.study.running import executors

    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(StudyError, match=r"absent: pip install 'thermoebm\[ray\]'"):
        executors.choose("ray", None, None)
