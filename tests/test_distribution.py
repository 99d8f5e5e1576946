"""The wheel and the sdist: built from the repository's files, installed into a fresh environment, and used there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import thermoebm
from tests import ROOT

NAME = f"thermoebm-{thermoebm.__version__}"

# Trains from the sdist's config with the wheel's library, and generates from the checkpoint.
USE = """
import warnings
warnings.simplefilter("error")
import thermoebm
import torch
images = thermoebm.load("runs/digits/0").generate(4, torch.Generator().manual_seed(0))
print(thermoebm.__version__, thermoebm.__file__, tuple(images.shape))
"""


def run(command: list[str | Path], **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=400, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    """A folder with both, built from what git tracks: what lies about in a working tree is in neither."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone, so which files belong to the repository is not known")
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("docs/", "tests/kept")) and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source])  # the wheel from the sdist
    return out


def test_the_sdist_has_library_programs_and_configs(distributions):
    with tarfile.open(distributions / f"{NAME}.tar.gz") as archive:
        files = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    assert configs | {"train.py", "evaluate.py", "LICENSE", "CHANGELOG.md", "CITATION.cff", "README.md"} <= files
    assert not {name for name in files if name.startswith("tests")}


def test_the_wheel_has_every_module_and_file_of_the_package(distributions):
    with zipfile.ZipFile(distributions / f"{NAME}-py3-none-any.whl") as archive:
        files = {name for name in archive.namelist() if name.startswith("thermoebm/")}
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    tracked = run(["git", "ls-files", "thermoebm"], cwd=ROOT).split()
    assert files == set(tracked)
    assert {"License-Expression: MIT", f"Version: {thermoebm.__version__}"} <= set(metadata.splitlines())


def used(python: Path, folder: Path, distributions: Path) -> None:
    """Trains two steps and generates, in a folder that has nothing of the repository but the sdist."""
    with tarfile.open(distributions / f"{NAME}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    shutil.rmtree(folder / NAME / "thermoebm")  # else it would be imported, and not what is installed
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    few = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "0"]
    quick = ["--gradient_variance.every_n_epochs", "0", "--fidelity.every_n_epochs", "0", "--model.compile", "off"]
    place = {"cwd": folder / NAME, "env": environment}
    said = run([python, "train.py", "fit", "-c", "configs/digits.yaml", *few, *quick], **place)
    assert "warning" not in said.lower()
    version, where, *shape = run([python, "-c", USE], **place).split(maxsplit=2)
    assert version == thermoebm.__version__
    assert Path(where).is_relative_to(python.parents[1])
    assert shape == ["(4, 1, 8, 8)\n"]


def test_an_installed_wheel_trains_and_generates(distributions, tmp_path):
    """In a fresh environment, to which the packages of this one are lent: what they need is tested below."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    own = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    wheel = distributions / f"{NAME}-py3-none-any.whl"
    run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", own, wheel])
    lent = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    Path(own, "lent.pth").write_text("\n".join(lent))
    used(python, tmp_path, distributions)


@pytest.mark.slow
def test_a_wheel_installs_with_what_it_needs(distributions, tmp_path):
    """From the package index, with the pinned pair of torch and torchvision; 2 minutes here."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    index = subprocess.run([*pip, "download", "-q", "--no-deps", "-d", tmp_path, "pyyaml"], capture_output=True)
    if index.returncode:
        pytest.skip("no package index can be reached")
    wheel = distributions / f"{NAME}-py3-none-any.whl"
    run([*pip, "install", "-q", "-c", ROOT / "constraints.txt", wheel])
    assert "No broken requirements" in run([*pip, "check"])
    used(python, tmp_path, distributions)
