"""The command line: faults are told in one sentence, before a run's directory exists."""

import subprocess
import sys

import pytest
import torch

from tests.cli.test_train import CONFIG, ROOT, SHORT, assert_fault

FAULTS = {
    "unknown field": (["--model.foo", 3], "there is no field model.foo; --print_config lists every field"),
    "unknown option": (["--trainer.maxepochs", 3], "no field trainer.maxepochs; did you mean trainer.max_epochs?"),
    "nested field": (["--model.objective.schedule.powr", 3], "did you mean model.objective.schedule.power?"),
    "no batch": (["--trainer.limit_train_batches", 0.001], "0.001 * 20 < 1"),
    "no validation": (["--trainer.val_check_interval", 1000], "(1000) must be less than or equal to the number of the"),
    "no config": (["--config", "absent.yaml"], "absent.yaml"),
    "unknown class": (["--model.objective", "thermoebm.objectives.Nope"], "Nope"),
    "step size": (
        ["--model.prior_sampler.step_size", -1],
        "MALA: step_size is -1.0; it must be positive and finite in",
    ),
    "N_t": (["--model.objective.schedule.num_temperatures", 0], "num_temperatures is 0;"),
    "p": (["--model.objective.schedule.power", 0], "power is 0.0; it must be positive"),
    "estimator": (["--model.objective.estimator", "foo"], "'endpoints', 'detached', 'contrastive', 'pathwise'"),
    "image size": (["--model.generator.image_shape", "[1,9,9]"], "size 8, 16, 28, 32, 64, 128 with 1 or 3"),
    "image shape": (["--model.generator.image_shape", "[3,8,8]"], "(3, 8, 8), the data set has (1, 8, 8);"),
    "latent": (["--model.energy.latent_dim", 17], "takes latents of size 17, the generator of size"),
    "batch": (["--data.batch_size", 2000], "one batch takes 2000"),
    "processes": (
        [*("--data.num_train", 100, "--trainer.devices", 2, "--trainer.strategy", "ddp"), "--trainer.accelerator=cpu"],
        "100 training images are 50 for each of 2 processes, and one batch takes 75;",
    ),
    "rate": (["--model.energy_optimizer.learning_rate", -1], "learning_rate -1.0 must be positive"),
    "betas": (["--model.energy_optimizer.betas", "[0.5,1.5]"], "betas"),
    "seed": (["--seed_everything", -1], "-1"),
    "threads": (["--threads", 0], "0"),
    "clipping": (["--trainer.gradient_clip_val", 1.0], "clip"),
    "accumulation": (["--trainer.accumulate_grad_batches", 2], "accumulat"),
    "KL of one image": (
        [
            *("--model.objective.eta", 1.0, "--data.batch_size", 49),
            *("--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.accelerator=cpu"),
        ],
        "GaussianKL: 1 samples in 32 dimensions give a singular covariance;",
    ),
    "checkpoint": (["--ckpt_path", "absent/last.ckpt"], "There is no checkpoint absent/last.ckpt."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_in_a_sentence_before_anything_is_written(capsys, tmp_path, fault):
    arguments, said = FAULTS[fault]
    assert_fault(capsys, tmp_path / "runs", said, "fit", *SHORT, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has float16")
def test_float16_on_a_cpu_is_refused_rather_than_replaced(capsys, tmp_path):
    said = "precision 16-mixed needs a CUDA device; use 32-true or bf16-mixed on this machine."
    assert_fault(capsys, tmp_path / "runs", said, "fit", *SHORT, "--trainer.precision", "16-mixed")


def test_the_program_itself_ends_with_one_line_and_code_2(tmp_path):
    """train.py as a user starts it, from another folder."""
    command = [sys.executable, ROOT / "train.py", "fit", *CONFIG, "--data.batch_size", "2000"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Digits: 1500 training images, of which 2000 are needed;")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
