"""The files around the package agree with one another."""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

import thermoebm
from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_lists_the_dependencies_of_pyproject_string_by_string():
    """conda and pip users get the same ranges: the lists are one list."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == [*PROJECT["dependencies"], "-e ."]
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]


def test_constraints_pin_the_pair_whose_compiled_halves_must_match():
    """torchvision 0.28 is built against torch 2.13 and no other."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["torch==2.13.0", "torchvision==0.28.0"]


def test_version_is_the_same_in_the_package_and_in_pyproject():
    assert thermoebm.__version__ == PROJECT["version"]


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("venv", "pip install"),
        ("train", "train.py fit --config configs/digits.yaml"),
        ("study", "-m thermoebm.study run configs/study/digits.yaml"),
        ("bench", "-m benchmarks"),
        ("test", 'pytest -n logical --dist worksteal -m "not slow"'),
        ("test-slow", "pytest -n logical --dist loadfile -m slow"),
        ("lint", "ruff check"),
        ("format", "ruff format"),
        ("clean", "rm -rf"),
    ],
)
def test_makefile_knows_target(target, command):
    """What make would run for it, were nothing up to date."""
    done = subprocess.run(["make", "-nB", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout


def test_make_test_and_train_pass_arguments_on():
    """ARGS reach pytest and train.py."""
    for target, program in (("test", "pytest"), ("train", "train.py fit"), ("study", "thermoebm.study run")):
        command = ["make", "-n", target, "ARGS=--some-flag 3"]
        plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert re.search(rf"{program}.* --some-flag 3$", plan, re.MULTILINE)


@pytest.mark.parametrize(("lint", "test", "status"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_ci_runs_lint_and_tests_and_fails_if_either_does(tmp_path, lint, test, status):
    """The script itself, with a make that notes its targets and fails as told."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    script.chmod((ROOT / ".ci" / "run").stat().st_mode)
    (tmp_path / "make").write_text(
        f"#!/bin/sh\necho $1 >> made\ncase $1 in lint) exit {lint};; test) exit {test};; esac\n"
    )
    (tmp_path / "make").chmod(0o755)
    (tmp_path / "chromium").symlink_to("/bin/true")  # or the script would go and install one
    done = subprocess.run([script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=False)
    assert (tmp_path / "made").read_text().split() == ["venv", "lint", "test"]
    assert bool(done.returncode) == bool(status)


@pytest.mark.parametrize("browser", ["", "chromium", "google-chrome"])
@pytest.mark.parametrize("apt", [None, 0, 100])
def test_ci_installs_a_browser_where_there_is_none_and_does_without(tmp_path, browser, apt):
    """On a PATH of stubs: apt-get is asked only where no browser is, and it may fail or be missing."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    stubs = {
        "make": "exit 0",
        "sudo": 'shift; exec "$@"',
        browser: "exit 0",
        "apt-get": f'echo "$@" >> asked; exit {apt}',
    }
    for name in ("bash", "dirname", "env", "id", "sed", "sh", "timeout"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name, line in stubs.items():
        if name and not (name == "apt-get" and apt is None):
            (tmp_path / name).write_text(f"#!{shutil.which('sh')}\n{line}\n")
            (tmp_path / name).chmod(0o755)
    command = [shutil.which("bash"), script]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert ("install" in asked and "chromium" in asked) == (not browser and apt == 0)
    assert ("update" in asked) == (not browser and apt is not None)
    assert ("tests in a browser are skipped" in done.stderr) == (not browser and apt != 0)


def test_no_file_is_long():
    """About 250 lines is the limit of CONTRIBUTING.md."""
    files = [*(ROOT / "thermoebm").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.py")]
    lengths = {file.name: len(file.read_text().splitlines()) for file in files}
    assert len(lengths) > 20
    assert {name: length for name, length in lengths.items() if length > 265} == {}


def test_every_config_names_classes_that_exist():
    """Whatever follows class_path in configs/ can be imported."""
    names = [n for f in (ROOT / "configs").rglob("*.yaml") for n in re.findall(r"class_path: ([\w.]+)", f.read_text())]
    assert len(names) > 5
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute), name


def test_the_tests_that_the_pages_name_are_there():
    """``tests/FILE.py::TEST`` and ``tests/FILE.py`` in docs/*.md."""
    named = 0
    for page in (ROOT / "docs").glob("*.md"):
        for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text(encoding="utf-8")):
            assert (ROOT / file).is_file(), f"{page.name} names {file}"
            assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{page.name} names {test}"
            named += bool(test)
    assert named > 15
