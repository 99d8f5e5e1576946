"""The development environment's pins: whole, hashed, and of the ranges that pyproject.toml declares."""

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_CUDA = ("cuda-", "nvidia-", "triton")


def pins(name):
    """The requirements of a file, each with its hashes."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / name).read_text()).replace("\\\n", "")
    blocks = [re.split(r"\s+--hash=", line) for line in text.splitlines() if line]
    return [(Requirement(block[0]), block[1:]) for block in blocks]


def pinned(python, system="linux", machine="x86_64"):
    """The version of each package that is pinned for a machine, by name."""
    where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    where |= {"platform_machine": machine, "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system]}
    chosen = [pin for pin, _ in pins("requirements-dev.txt") if not pin.marker or pin.marker.evaluate(where)]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(versions) == len(chosen)  # no package twice
    return versions


@pytest.mark.parametrize("name", ["requirements-dev.txt", "requirements-cpu.txt"])
def test_every_pin_is_one_version_with_hashes(name):
    for pin, hashes in pins(name):
        assert re.fullmatch(r"==[\w.+]+", str(pin.specifier)), pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), pin


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_pins_are_within_the_ranges_of_pyproject(python, system):
    """Of what is needed, to develop and to build, nothing is left out: pip would not look for it."""
    versions = pinned(python, system, "arm64" if system == "darwin" else "x86_64")
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], *PROJECT["build-system"]["requires"]]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(versions.get(name, "none")), f"{requirement}: {versions.get(name)}"


def test_constraints_and_hashes_are_of_the_same_pair():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pair = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pair.keys() == {"torch", "torchvision"}
    assert pair.items() <= pinned("3.11").items()
    ((cpu, _),) = pins("requirements-cpu.txt")
    assert (cpu.name, str(cpu.specifier)) == ("torch", f"=={pair['torch']}+cpu")


def test_what_the_pinned_packages_need_is_pinned_too():
    """As their own metadata says, as far as this environment has them."""
    here = default_environment()
    versions = pinned(here["python_version"])
    for name, version in versions.items():
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue  # of another system, or an environment that was not made from these pins
        for need in needs:
            if not need.marker or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in versions, f"{name} {version} needs {need}"


@pytest.fixture
def made(tmp_path):
    """Runs ``make venv`` in a copy of the files that it reads, with a Python that only notes what it is asked to do."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "requirements-dev.txt", "requirements-cpu.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)

    def make(case, *arguments):
        python.write_text(f'#!/bin/sh\necho "$@" >> asked\ncase "$*" in {case} esac\n')
        python.chmod(0o755)
        (tmp_path / ".venv" / ".complete").touch()
        command = ["make", "-B", "venv", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return make


def test_only_packages_of_cuda_are_left_out_beside_another_build_of_torch(made, tmp_path):
    (torch,) = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]

    def listed(version):
        assert made(f'*"pip list"*) echo {version};;').returncode == 0
        text = (tmp_path / ".venv" / "requirements.txt").read_text()
        return set(re.findall(r"(?m)^([a-z][\w.-]*)==", text)), text.count("--hash")

    every, hashes = listed(torch)
    assert every == {pin.name for pin, _ in pins("requirements-dev.txt")}
    assert listed("torch==2.6.0+cpu") == (every, hashes)  # another version than the pinned one goes
    kept, fewer = listed(f"{torch}+cpu")
    assert every - kept == {name for name in every if name.startswith(_CUDA)} != set()
    assert fewer == hashes - sum(len(of) for pin, of in pins("requirements-dev.txt") if pin.name.startswith(_CUDA))
    installs = [line for line in (tmp_path / "asked").read_text().splitlines() if "pip install" in line]
    assert len(installs) == 9
    assert all("--no-deps" in line and ("--require-hashes" in line or line.endswith("-e .")) for line in installs)


def test_a_set_that_does_not_fit_is_told_in_a_sentence_and_can_be_left(made, tmp_path):
    refused = made("*requirements.txt) exit 1;;")
    assert refused.returncode != 0
    assert "cannot be installed here" in refused.stderr
    assert "make venv HASHES=no" in refused.stderr
    assert not (tmp_path / ".venv" / ".complete").exists()
    assert made("*requirements.txt) exit 1;;", "HASHES=no").returncode == 0
    assert (tmp_path / "asked").read_text().count("-c constraints.txt -e .[dev]") == 1
