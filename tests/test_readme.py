"""The front page: its Python runs as it stands on what `make train` leaves, and it stays a front page."""

import re

from tests import ROOT
from tests.cli.test_train import cli

README = (ROOT / "README.md").read_text()


def test_its_python_prints_the_evidence_of_digits(tmp_path, monkeypatch, capsys):
    """On a model of two steps, with few steps of annealing, on a few digits."""
    monkeypatch.chdir(tmp_path)
    few = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 0]
    quick = ["--gradient_variance.every_n_epochs", 0, "--fidelity.every_n_epochs", 0, "--model.compile", "off"]
    cli("fit", "--config", ROOT / "configs/digits.yaml", *few, *quick)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for whole, shrunk in (("Annealing()", "Annealing(4, 8, 8, prior_steps=10, particles=50)"), ("20", "3")):
        assert whole in code
        code = code.replace(whole, shrunk)
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    printed = re.findall(r"log p\(x\) (-?[\d.]+) nats, Monte Carlo error of an image ([\d.]+)", capsys.readouterr().out)
    assert len(printed) == 3
    assert all(0 < float(error) < 100 for _, error in printed)


def test_it_is_two_screens_long():
    """A screen of a laptop shows some fifty lines of a page."""
    assert len(README.splitlines()) <= 110
