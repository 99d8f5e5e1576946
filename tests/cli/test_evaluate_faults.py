"""evaluate.py: faults are told in one sentence, with code 2, and what was computed is kept."""

import csv

import pytest
import torch
from torch import nn

from tests.cli.test_evaluate import FEATURES, with_data
from thermoebm.applications import evaluation
from thermoebm.cli.evaluate import main


class Wrong(nn.Module):
    def forward(self, images):
        return images


class Broken(nn.Module):
    def forward(self, images):
        return images + "a"


class Poisoned(nn.Module):
    def forward(self, images):
        return images.flatten(1) / 0


def refused(capsys, *arguments):
    """The one line that is said when the program ends with code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_faults_of_paths_are_told_before_anything_is_written(capsys, tmp_path, checkpoint):
    output = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for path, said in (
        (tmp_path / "absent.ckpt", f"There is no checkpoint {tmp_path}/absent.ckpt."),
        (tmp_path / "empty", f"There is no last.ckpt in the folder {tmp_path}/empty."),
    ):
        assert refused(capsys, "--checkpoint", path, "--output", output) == f"error: {said}\n"
    said = refused(capsys, "--checkpoint", checkpoint, "--output", tmp_path / "file" / "out")
    assert said == f"error: The output folder {tmp_path}/file/out cannot be written (Not a directory).\n"
    assert "'0' is not a positive whole number" in refused(
        capsys, "--checkpoint", checkpoint, "--output", output, "--num_samples", 0
    )
    assert "--checkpoint" in refused(capsys, "--output", output)
    assert not output.exists()


@pytest.fixture
def never_sampled(monkeypatch):
    """Whoever samples fails."""
    monkeypatch.setattr(evaluation, "samples", lambda *_: pytest.fail("sampled before the fault was told"))


@pytest.mark.usefixtures("never_sampled")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--extractor", "nonsense"], "There is no extractor 'nonsense'; choose inception, classifier,"),
        (["--extractor", "inception:absent.pth"], "There are no weights absent.pth: put https://"),
        (
            ["--extractor", "torch.nn.Linear"],
            "Extractor 'torch.nn.Linear' cannot be built without arguments: TypeError",
        ),
        (["--num_samples", "15"], "There are 15 images: too few to extrapolate from."),
        (["--sizes", "500", "600", "700"], "There are 300 images, fewer than the smallest size, 500."),
        (["--seed", "-1"], "seed is -1; give a number of at least 0."),
        pytest.param(
            ["--device", "cuda"],
            "There is no CUDA device here; use --device cpu or auto.",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_faults_of_settings_are_told_once_before_anything(capsys, checkpoint, tmp_path, arguments, said):
    output = tmp_path / "out"
    told = refused(capsys, "--checkpoint", checkpoint, checkpoint, "--output", output, *FEATURES, *arguments)
    assert told.startswith(f"error: {said}")
    assert not output.exists()


@pytest.mark.usefixtures("never_sampled")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--extractor", f"{__name__}.Wrong"], "Wrong returned (1, 1, 8, 8) for 1 images; it must return features"),
        (["--extractor", f"{__name__}.Poisoned"], "features of image 0 are not finite"),
        (["--extractor", f"{__name__}.Broken"], "Broken takes no images of shape (1, 8, 8): TypeError: "),
        (["--sizes", "298", "299", "300"], "There are 297 images, fewer than the smallest size, 298."),
    ],
)
def test_faults_that_show_on_the_data_name_the_checkpoint(capsys, checkpoint, tmp_path, arguments, said):
    told = refused(capsys, "--checkpoint", checkpoint, "--output", tmp_path, *FEATURES, *arguments)
    assert told.startswith(f"error: {checkpoint}: ")
    assert said in told


@pytest.mark.usefixtures("never_sampled")
def test_nothing_is_downloaded_against_the_users_will(capsys, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.MNIST.download", lambda *_, **__: pytest.fail("downloads"))
    path = with_data(checkpoint, tmp_path / "mnist.ckpt", class_path="thermoebm.data.MNIST")
    folder = tmp_path / "elsewhere"
    arguments = ["--checkpoint", path, "--output", tmp_path / "out", "--root", folder]
    told = refused(capsys, *arguments, "--no_download", *FEATURES)
    assert told.startswith(f"error: {path}: ")
    assert "downloading is off" in told
    assert str(folder) in told


@pytest.mark.parametrize("error", [torch.linalg.LinAlgError, torch.OutOfMemoryError, ValueError])
def test_what_fails_late_costs_neither_the_evidence_nor_the_other_checkpoints(
    capsys, checkpoint, tmp_path, monkeypatch, error
):
    """The distances of the first of two fail: its row has the rest, the second's all of it."""
    first = tmp_path / "first.ckpt"
    first.write_bytes(checkpoint.read_bytes())
    outcomes = iter([error("did not converge\nin 30 steps")])
    summarise = evaluation.summarise

    def once(*arguments):
        for outcome in outcomes:
            raise outcome
        return summarise(*arguments)

    monkeypatch.setattr(evaluation, "summarise", once)
    out = tmp_path / "out"
    told = refused(
        capsys,
        "--checkpoint",
        first,
        checkpoint,
        "--output",
        out,
        *FEATURES,
        "--gradient_variance",
        "--num_samples",
        200,
    )
    assert told == f"error: {first}: did not converge in 30 steps\n"
    failed, whole = csv.DictReader((out / "metrics.csv").read_text("utf-8").splitlines())
    assert failed["checkpoint"] == str(first)
    distance = "FD[tests.extractors.Flat]_inf"
    assert (failed[distance], float(whole[distance]) > 0) == ("", True)
    for name in ("short_run_evidence", "reconstruction_error", "gradient_variance/per_parameter/total/both"):
        assert failed[name] == whole[name] != ""


def test_what_was_computed_before_and_after_a_bad_checkpoint_is_kept(capsys, checkpoint, tmp_path):
    """Truncated, without a config, of another model than its config, of none, of other channels than its data."""
    content = torch.load(checkpoint, weights_only=True)
    (tmp_path / "truncated.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    generator = content["config"]["model"]["init_args"]["generator"]["init_args"]
    features, generator["features"] = generator["features"], 4
    torch.save(content, tmp_path / "other.ckpt")
    generator["features"], generator["leak"] = features, "much"
    torch.save(content, tmp_path / "no.ckpt")
    generator["leak"], generator["image_shape"] = 0.2, [3, 8, 8]
    last = content["state_dict"]["generator.layers.2.weight"]
    content["state_dict"]["generator.layers.2.weight"] = last.repeat(1, 3, 1, 1)
    content["state_dict"]["generator.layers.2.bias"] = torch.zeros(3)
    torch.save(content, tmp_path / "channels.ckpt")
    bad = [tmp_path / f"{name}.ckpt" for name in ("truncated", "bare", "other", "no", "channels")]
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["--checkpoint", *map(str, [*bad, checkpoint]), "--output", str(tmp_path / "out"), *FEATURES])
    assert ended.value.code == 2
    said = capsys.readouterr()
    reasons = [
        "not a readable checkpoint",
        "not a checkpoint that train.py wrote",
        "is of another model: generator.",
        "its model cannot be built:",
        "(3, 8, 8), the data",
    ]
    for line, path, reason in zip(said.err.splitlines(), bad, reasons, strict=True):
        assert line.startswith(f"error: {path}")
        assert reason in line
    rows = csv.DictReader((tmp_path / "out" / "metrics.csv").read_text("utf-8").splitlines())
    assert [row["label"] for row in rows] == ["alone-7"]
    assert "alone-7" in said.out
