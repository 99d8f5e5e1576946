"""Networks of one's own, and what else a class path names: found in the working directory, kept in checkpoints."""

import io
import re
import shutil
import subprocess
import sys

import pytest
import torch

import thermoebm
from tests import ROOT
from tests.cli.test_train import SHORT, assert_fault, cli, rows
from thermoebm.cli.evaluate import main
from thermoebm.modules import LatentEBM
from thermoebm.runtime import class_paths

OWN = [
    *("--model.energy", "mynets.MyEnergy", "--model.energy.width", 12, "--model.generator", "mynets.MyGenerator"),
    *("--model.objective", "mynets.MyObjective", "--model.objective.factor", 2, "--data", "mynets.MyDigits"),
    *("--model.prior_sampler", "mynets.MySampler", "--trainer.callbacks=null", "--trainer.limit_train_batches=2"),
]
PARTS = """

from thermoebm.data import Digits
from thermoebm.objectives import MaximumLikelihood
from thermoebm.samplers import ULA


class MyObjective(MaximumLikelihood):
    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.factor = factor


class MyDigits(Digits):
    pass


class MyFeatures(torch.nn.Flatten):
    pass


class MySampler(ULA):
    class Inner(ULA):
        pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with the networks of docs/how-to/own-network.md, of which Python knows nothing yet."""
    page = (ROOT / "docs" / "how-to" / "own-network.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(# mynets\.py\n.*?class MyGenerator.*?)```", page, re.DOTALL)
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "mynets.py").write_text(shown[1] + PARTS)
    (folder / "torch.py").write_text("raise RuntimeError('a file of this directory hides a package')")
    leave(monkeypatch, folder)
    return folder


def leave(monkeypatch, folder):
    """Goes to another folder, with a Python that has seen no other."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "mynets" not in place and "here" not in place])
    monkeypatch.delitem(sys.modules, "mynets", raising=False)


def test_a_run_with_classes_of_ones_own_is_trained_resumed_evaluated_and_loaded(here, monkeypatch, capsys):
    """The two ways to load its checkpoint give the same images."""
    program, _ = cli("fit", *SHORT, *OWN)
    parts = [*vars(program.model)["_modules"].values(), program.model.objective, program.model.prior_sampler]
    names = ["MyEnergy", "MyGenerator", "MyObjective", "MySampler", "MyDigits"]
    assert [type(part).__name__ for part in (*parts, program.datamodule)] == names
    assert (program.model.energy.layers[0].out_features, program.model.objective.factor) == (12, 2)
    assert sys.path[-1] == str(here)
    assert sys.path.count(str(here)) == 1

    path = "runs/digits/0/checkpoints/last.ckpt"
    cli("fit", *SHORT, *OWN, "--trainer.max_epochs", 2, "--ckpt_path", path)
    assert torch.load(path, weights_only=True)["global_step"] == 4
    assert [row["step"] for row in rows(here / "runs/digits/0") if row["train/loss"]] == ["0", "1", "2", "3"]

    leave(monkeypatch, here)
    model = thermoebm.load(path)
    leave(monkeypatch, here)
    other = LatentEBM.load_from_checkpoint(path)
    drawn = [m.generate(3, torch.Generator().manual_seed(0)) for m in (model, other)]
    assert torch.equal(*drawn)
    assert drawn[0].shape == (3, 1, 8, 8)
    assert (other.energy.layers[0].out_features, other.posterior_sampler.num_steps) == (12, 3)  # of the run: no default
    changed = LatentEBM.load_from_checkpoint(path, likelihood_sigma=0.9, energy=model.energy)
    assert (changed.likelihood.sigma, changed.energy, changed.prior_sampler.num_steps) == (0.9, model.energy, 5)

    leave(monkeypatch, here)
    short = ["--num_samples", "50", "--evidence_images", "10", "--evidence", "short", "--device", "cpu"]
    main(["--checkpoint", path, "--output", "out", "--extractor", "mynets.MyFeatures", *short])
    assert (here / "out/digits-0/samples.png").is_file()

    elsewhere = here.parent / "elsewhere"
    shutil.copytree(here / "runs", elsewhere / "runs")
    leave(monkeypatch, elsewhere)
    told = (
        f"the class mynets.MyEnergy cannot be imported: there is no module mynets in {elsewhere} or on Python's path; "
    )
    for load in (thermoebm.load, LatentEBM.load_from_checkpoint):
        with pytest.raises(ValueError, match=re.escape(told)) as error:
            load(path)
        assert str(error.value).startswith(f"{path}: ")
    capsys.readouterr()
    said = "Problem with given class_path 'mynets.MyEnergy': No module named 'mynets'"
    assert_fault(capsys, elsewhere / "other", said, "fit", *SHORT, *OWN)


def test_what_a_network_lacks_is_told_before_anything_is_written(here, capsys):
    said = "LatentEBM: ConvGenerator returns shape (2, 1, 8, 8) for latents (2, 32); it must return one energy for each"
    energy = ["--model.energy", "thermoebm.networks.ConvGenerator", "--model.energy.image_shape", "[1,8,8]"]
    assert_fault(capsys, here / "runs", said, "fit", *SHORT, *energy)


def test_a_checkpoint_of_version_0_1_0_names_what_loads_it():
    path = next((ROOT / "tests" / "kept").glob("folder/runs/*/0/checkpoints/last.ckpt"))
    with pytest.raises(
        ValueError, match=r"it has no arguments of LatentEBM; .* thermoebm.load if train.py wrote it\.$"
    ):
        LatentEBM.load_from_checkpoint(path)


def test_help_lists_this_packages_networks_and_none_of_torch():
    printed = io.StringIO()
    with pytest.raises(SystemExit):
        cli("fit", "--model.help", "LatentEBM", printed=printed)
    energy, generator = re.findall(r"known\s+subclasses:([^)]*)\)", printed.getvalue())[:2]
    assert "thermoebm.networks.EnergyMLP" in energy
    assert "thermoebm.networks.ConvGenerator" in generator
    assert not re.findall(r"\btorch\w*\.", energy + generator)  # whatever other tests have defined


def test_classes_are_looked_for_in_the_working_directory_last(here):
    """A program that lies elsewhere; Python's safe mode keeps the directory out."""
    (program := here.parent / "program.py").write_text(
        "import sys\nfrom thermoebm.runtime.class_paths import look_here as look\nlook()\nlook()\nprint(sys.path[-2:])"
    )
    for options, found in (([], True), (["-P"], False)):
        done = subprocess.run([sys.executable, *options, program], cwd=here, capture_output=True, text=True, check=True)
        assert (str(here) in done.stdout) is found
        assert done.stdout.count(str(here)) == found


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("mynets.Nope", r"the class mynets.Nope cannot be imported: .*mynets.py has no Nope\.$"),
        (
            "broken.Energy",
            r"the class broken.Energy cannot be imported: broken needs not_there, which is not installed\.$",
        ),
        (
            "folder.nets.Energy",
            r"there is no module folder in .* or on Python's path; start from the folder that has it,",
        ),
        ("mynets.MySampler.Inner", None),
    ],
)
def test_a_class_that_is_not_there_is_told_with_the_reason(here, path, told):
    (here / "broken.py").write_text("import not_there")
    class_paths.look_here()
    config = {"a": [{"class_path": "collections.Counter"}, {"class_path": path, "init_args": {}}], "class_path": None}
    if told is None:
        class_paths.check(config)
        return
    with pytest.raises(ValueError, match=told):
        class_paths.check(config)
