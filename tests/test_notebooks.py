"""The notebooks of the documentation: executed again, quiet, and committed with the outputs of their full length."""

import importlib.util
import os
import pkgutil
import re
from pathlib import Path
from typing import Any

import matplotlib.font_manager  # noqa: F401  (says on stderr that it makes its cache: here, and not in a notebook)
import nbformat
import pytest
import yaml
from nbformat import NotebookNode

from thermoebm.modules import LatentEBM
from thermoebm.optim import DecayedAdam
from thermoebm.schedules import PowerLaw

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "notebooks"
FIRST, INTEGRATION = FOLDER / "first-samples.ipynb", FOLDER / "thermodynamic-integration.ipynb"
SHORT = {"EPOCHS": 1, "SAMPLES": 300, "EVIDENCE_IMAGES": 4, "EVIDENCE_STEPS": 20, "COMPLETION_STEPS": 20}

_spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
assert _spec is not None
assert _spec.loader is not None
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code(notebook) for output in cell.outputs]


def texts(notebook: NotebookNode) -> list[str]:
    """What the notebook printed, and the text that stands for its figures."""
    printed = [output.text for output in outputs(notebook) if output.output_type == "stream"]
    return printed + [str(output.data["text/plain"]) for output in outputs(notebook) if "data" in output]


def run(path: Path, folder: Path, parameters: dict[str, int] | None = None) -> NotebookNode:
    """The notebook executed in an empty folder, with the package beside this file and nobody's settings of Jupyter."""
    own = {name: str(folder / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    notebook: NotebookNode = execute.executed(path, folder, parameters, env=os.environ | own | settings)
    return notebook


def check_quiet(notebook: NotebookNode) -> None:
    """Neither a warning nor a progress bar nor an error is among the outputs, and every cell was executed in turn."""
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert {output.output_type for output in outputs(notebook)} == {"stream", "display_data"}
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))


def figures(notebook: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.mark.parametrize(("path", "shown", "checked"), [(FIRST, 7, 3), (INTEGRATION, 9, 9)])
def test_is_committed_with_its_outputs(path: Path, shown: int, checked: int) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    check_quiet(notebook)
    assert figures(notebook) >= shown
    assert sum(cell.source.count("assert ") for cell in code(notebook)) >= checked
    told = "\n".join(texts(notebook))
    assert re.findall(r"(?:(?<=[\s'\"(=])|^)(?:/|~/|[A-Z]:\\)\w\S*", told) == []  # paths of the machine
    assert re.findall(r"0x[0-9a-f]{6,}", told) == []  # addresses, which no two executions share
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_committed_notebooks_are_small() -> None:
    assert sum(path.stat().st_size for path in (FIRST, INTEGRATION)) < 1.5e6


def test_the_first_is_committed_at_its_full_length() -> None:
    notebook = nbformat.read(FIRST, as_version=4)
    (cell,) = (cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", []))
    values: dict[str, int] = {}
    exec(cell.source, {}, values)
    assert set(values) == set(SHORT)
    told = "\n".join(texts(notebook))
    epochs, updates = values["EPOCHS"], values["EPOCHS"] * (1500 // 75)
    assert f"{updates:,} updates in {epochs} epochs" in told
    assert re.search(rf"^ *{values['EVIDENCE_STEPS']} temperatures: mean log p", told, re.M)
    assert f"{values['SAMPLES']:,} samples" in told


def test_data_to_samples(tmp_path: Path) -> None:
    notebook = run(FIRST, tmp_path, SHORT)
    check_quiet(notebook)
    assert "20 updates in 1 epochs" in "\n".join(texts(notebook))
    assert figures(notebook) == figures(nbformat.read(FIRST, as_version=4))


def test_thermodynamic_integration_holds(tmp_path: Path) -> None:
    """Its asserts compare chains, sums and gradients with closed forms."""
    notebook = run(INTEGRATION, tmp_path)
    check_quiet(notebook)
    assert figures(notebook) == figures(nbformat.read(INTEGRATION, as_version=4))


#: Fields of a config that name no class, since they have one only.
FIELDS: dict[str, Any] = {"schedule": PowerLaw, "energy_optimizer": DecayedAdam, "generator_optimizer": DecayedAdam}


def made(setting: Any) -> Any:
    """The object of a config's class_path and init_args."""
    if not isinstance(setting, dict):
        return setting
    if "class_path" in setting:
        return pkgutil.resolve_name(setting["class_path"])(**made(setting["init_args"]))
    return {name: FIELDS[name](**value) if name in FIELDS else made(value) for name, value in setting.items()}


def plain(kernel: Any) -> dict[str, Any]:
    """The settings of a sampler, without the module that an adapted step size is kept in."""
    return {name: value for name, value in vars(kernel).items() if name != "adapted"}


def test_the_model_is_that_of_the_config() -> None:
    names: dict[str, Any] = {}
    cells = [cell.source for cell in code(nbformat.read(FIRST, as_version=4))]
    imports, model = cells[0].partition("quieten()")[0], next(cell for cell in cells if "model = " in cell)
    exec(imports + model.partition("\nfor ")[0], names)
    ours = names["model"]
    theirs = made(yaml.safe_load((ROOT / "configs" / "digits.yaml").read_text("utf-8"))["model"])
    assert isinstance(theirs, LatentEBM)
    assert repr(ours) == repr(theirs)  # the networks, layer by layer
    assert repr(ours.objective) == repr(theirs.objective)
    assert [settings for _, settings in ours.optimizer_settings] == [
        settings for _, settings in theirs.optimizer_settings
    ]
    assert (ours.reference.sigma, ours.likelihood.sigma) == (theirs.reference.sigma, theirs.likelihood.sigma)
    for kernel in ("prior_sampler", "posterior_sampler"):
        a, b = getattr(ours, kernel), getattr(theirs, kernel)
        assert (type(a), plain(a)) == (type(b), plain(b))
