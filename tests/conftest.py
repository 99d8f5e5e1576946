"""What several files share: a small model, real images, and a thread count that no test leaves changed."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # each core has a process of its own; what it starts shall keep to it too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import thermoebm  # noqa: F401, I001  (before anything that imports torchvision)

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.browser import browser  # noqa: F401  (a fixture of several folders)
from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.samplers import ULA


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors are tiny here: a second thread costs more than it computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the program keeps is shared by the tests of one session, and not with the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THERMOEBM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, $THERMOEBM_DATA or ../shared/data beside the repository."""
    here = Path(__file__).parents[1]
    folder = Path(os.environ.get("THERMOEBM_DATA") or here.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the real images of {folder} are not here; THERMOEBM_DATA may name another folder")
    return folder


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache on disk."""
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def small_model() -> Callable[..., LatentEBM]:
    """Makes a LatentEBM of 8x8 grey images with d = 8 and short chains; arguments replace its own."""

    def make(**arguments: Any) -> LatentEBM:
        torch.manual_seed(0)
        defaults: dict[str, Any] = {
            "energy": EnergyMLP(8, hidden_dim=16),
            "generator": ConvGenerator(8, (1, 8, 8), features=2),
            "prior_sampler": ULA(step_size=0.1, num_steps=3),
            "posterior_sampler": ULA(step_size=0.01, num_steps=2),
            "compile": "off",
        }
        return LatentEBM(**(defaults | arguments))

    return make


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run of one epoch on digits, without the rest of its run."""
    from tests.cli.test_train import SHORT, cli

    folder = tmp_path_factory.mktemp("checkpoint")
    cli("fit", *SHORT, "--trainer.check_val_every_n_epoch", 1, "--runs", folder / "runs")
    kept = folder / "alone" / "7" / "checkpoints" / "last.ckpt"
    kept.parent.mkdir(parents=True)
    (folder / "runs" / "digits" / "0" / "checkpoints" / "last.ckpt").rename(kept)
    return kept
