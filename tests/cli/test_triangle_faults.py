"""Models with an encoder through train.py: what does not fit is told in a sentence."""

from pathlib import Path

import pytest
import yaml

from tests.cli.test_train import assert_fault
from tests.cli.test_triangle import CONFIGS, overlays


def test_a_fault_in_a_file_with_a_relative_path_is_told_with_its_field(tmp_path, monkeypatch, capsys):
    """jsonargparse parses a file in its own folder: the names of other files were lost there."""
    (tmp_path / "configs").mkdir()
    for name in ("digits", "vae"):
        (tmp_path / "configs" / f"{name}.yaml").write_text((CONFIGS / f"{name}.yaml").read_text())
    wrong = {"model": {"init_args": {"encoder_optimizer": {"learning_rat": 1e-3}}}}
    (tmp_path / "configs" / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    monkeypatch.chdir(tmp_path)
    files = [argument for name in ("digits", "vae", "wrong") for argument in ("-c", f"configs/{name}.yaml")]
    told = (
        "there is no field model.encoder_optimizer.learning_rat, which configs/wrong.yaml sets; did you mean "
        "model.encoder_optimizer.learning_rate?"
    )
    assert_fault(capsys, tmp_path / "runs", told, "fit", *files)
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            [
                "--model.encoder",
                "ConvEncoder",
                "--model.encoder.latent_dim",
                9,
                "--model.encoder.image_shape",
                "[1,8,8]",
            ],
            "DivergenceTriangle: the generator takes latents of size 32, the encoder infers size 9.",
        ),
        (
            ["--model.energy", "ConvEnergy", "--model.energy.image_shape", "[3,8,8]"],
            "DivergenceTriangle: the generator makes images of shape (1, 8, 8), the energy takes (3, 8, 8); give",
        ),
        (
            ["--model.generator.image_shape", "[1,16,16]"],
            "DivergenceTriangle: the generator makes images of shape (1, 16, 16), the data set has (1, 8, 8); set",
        ),
        (["--model.terms.energy_penalty", -1], "Triangle: energy_penalty is -1.0; it must be finite and not negative."),
        (
            ["--best.monitor", "val/evidence_bond", "--variant", "mine"],
            "best.monitor is val/evidence_bond, which nothing logs; the nearest name is val/evidence_bound.",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(tmp_path, capsys, given, told):
    assert_fault(capsys, tmp_path / "runs", told, "fit", *overlays("divergence_triangle"), *given)
