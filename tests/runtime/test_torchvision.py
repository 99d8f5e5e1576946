"""With the package torchvision, and all that imports it, can be imported: in any order, and only when asked for."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import ROOT
from thermoebm.runtime import torchvision

#: Takes away the finder that an environment of make venv may have from the start: the package's own is then tested.
BARE = "sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != 'TorchvisionFinder']\n"


def python(code: str, *first_on_path: Path, before: str = BARE) -> str:
    """What a fresh interpreter prints, importing from these folders first."""
    path = [str(p) for p in (*first_on_path, ROOT)]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{before}{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_that_needs_torchvision_imports_and_works_after_the_package():
    """Data sets, transforms and grids give the right numbers; Lightning, torchmetrics and torch-fidelity import."""
    printed = python(
        """
import thermoebm, torch
import lightning.pytorch, torch_fidelity, torchmetrics.image.fid
from torchvision import datasets, utils
from torchvision.transforms import v2
print(len(datasets.FakeData(size=3)))
print(v2.Resize(4)(torch.full((3, 8, 8), 0.5)).mean().item())
print(tuple(utils.make_grid(torch.zeros(4, 1, 8, 8), nrow=2, padding=2).shape))
"""
    )
    assert printed.split("\n")[:3] == ["3", "0.5", "(3, 22, 22)"]


def test_the_order_of_imports_is_the_users():
    """In an environment of `make venv` the package may also come last (above: first)."""
    if Path(sys.prefix) != ROOT / ".venv" and find_spec("_thermoebm_torchvision") is None:
        command = [sys.executable, "-c", "import torchvision"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("torchvision does not fit torch here, and this is no environment of make venv")
    code = "import torchvision, lightning.pytorch\nimport thermoebm\nprint(thermoebm.LatentEBM.__name__)"
    printed = python(code, before="")
    assert printed.split() == ["LatentEBM"]


def test_the_package_alone_imports_nothing_that_takes_time():
    """Half a second for --help, and the hook, are for nothing if the package imports torch for its own sake."""
    printed = python("import thermoebm\nprint(*(name for name in sys.modules if '.' not in name))")
    assert "thermoebm" in printed.split()
    assert {"torch", "torchvision", "lightning", "numpy", "pandas", "jsonargparse"} & {*printed.split()} == set()


def stub(folder: Path, body: str) -> Path:
    """A package that stands in for torchvision, so that both kinds of machine are seen on each."""
    package = folder / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(body)
    return folder


def test_nothing_is_declared_where_torchvision_imports_by_itself(tmp_path):
    """No second definition of an operator that torchvision's own extension has defined."""
    folder = stub(tmp_path, "")
    printed = python("import thermoebm, torch, torchvision\nprint(hasattr(torch.ops.torchvision, 'nms'))", folder)
    assert printed.split() == ["False"]


def test_operators_are_declared_where_shape_functions_are_registered_for_missing_ones(tmp_path):
    """As the wheel's Python half does beside a CPU build: it registers a shape function for two undefined operators."""
    fake = "@torch.library.register_fake('torchvision::{0}')\ndef {0}(dets, scores, iou_threshold):\n    return dets\n"
    body = "import torch\n" + fake.format("nms") + fake.format("qnms")
    folder = stub(tmp_path, body)
    printed = python(
        "import thermoebm, torch, torchvision\n"
        "print(torch.ops.torchvision.nms.default._schema.name, torchvision.__file__)",
        folder,
    )
    assert printed.split() == ["torchvision::nms", str(folder / "torchvision" / "__init__.py")]


def test_an_environment_can_have_the_finder_from_the_start(tmp_path, monkeypatch):
    """Without the package: the copy acts in programs that never import it, and beside the package's own once."""
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    torchvision.install_in_environment()
    names = "print(sum('TorchvisionFinder' in (type(f).__name__, getattr(f, '__name__', '')) for f in sys.meta_path), "
    printed = python(
        "import site\n"
        f"sys.modules.pop('_thermoebm_torchvision', None); sys.path.insert(0, {str(tmp_path)!r})\n"
        f"site.addsitedir({str(tmp_path)!r})\n" + names + "'thermoebm' in sys.modules)\n"
        "import thermoebm\n" + names + "sys.modules['_thermoebm_torchvision'].__file__)"
    )
    assert printed.split() == ["1", "False", "1", str(tmp_path / "_thermoebm_torchvision.py")]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise RuntimeError('disk full')", "RuntimeError: disk full"),
        ("raise RuntimeError('torchvision::roi_align is broken')", "RuntimeError: torchvision::roi_align is broken"),
        ("raise ImportError('no torchvision')", "ImportError: no torchvision"),
    ],
)
def test_other_faults_of_torchvision_are_not_hidden(tmp_path, body, error):
    """An import that fails for another reason, or goes on failing, raises torchvision's own error, each time."""
    folder = stub(tmp_path, body)
    code = (
        "import thermoebm\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        import torchvision\n"
        "    except Exception as error:\n"
        "        print(f'{type(error).__name__}: {error}')"
    )
    printed = python(code, folder)
    assert printed.splitlines() == [error, error]
