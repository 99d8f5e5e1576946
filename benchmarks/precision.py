"""What do TF32 and bfloat16 change? python -m benchmarks.precision [CHECKPOINT]

Compares each precision with float32 on the same model, images and noise: moments of z at each temperature,
short-run evidence and its Riemann sums, and the gradient of the loss. Float32 with other noise gives the scale. Without
a checkpoint, a model of digits is trained for some seconds.
"""

import thermoebm  # noqa: F401, I001  (before anything that imports torchvision)

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks import report
from benchmarks.measure import Group, precision, precisions
from benchmarks.models import NETWORKS, SCHEDULE, build, objective
from thermoebm import evidence, optim
from thermoebm.runs import checkpoints
from thermoebm.data import Digits
from thermoebm.modules import LatentEBM

OTHER_NOISE = "float32, other noise"


class Sampled(NamedTuple):
    """Results in one precision: z (T, N, d), log p(x|z) (T, N) in nats, and the flattened gradient of each network."""

    z: Tensor
    log_likelihood: Tensor
    gradients: dict[str, Tensor]


def sample(model: LatentEBM, x: Tensor, name: str, counter: int = 0) -> Sampled:
    """Ladder and gradient in one precision, with the noise of the stream numbered ``counter``."""
    temperatures = SCHEDULE.temperatures().to(x)
    with precision("float32" if name == OTHER_NOISE else name, x.device):
        with torch.no_grad():
            rng = model.stream("precision", counter)
            z_prior = model.sample_prior(len(x), rng)
            z = torch.cat([z_prior[None], model.sample_posterior(x, temperatures[1:], rng, z_prior=z_prior)])
            log_likelihood = torch.stack([model.likelihood.log_prob(x, z_t) for z_t in z])
        loss = model.objective(model, x, model.stream("precision gradient", counter), step=None).loss
        gradients = {}
        # A backward pass belongs outside autocast; its products have the precision of the forward pass.
        with torch.autocast(x.device.type, enabled=False):
            for network, module in (("energy", model.energy), ("generator", model.generator)):
                found = torch.autograd.grad(
                    loss, list(module.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
                )
                gradients[network] = torch.cat([g.flatten() for g in found])
    return Sampled(z, log_likelihood, gradients)


def moments(found: Sampled, exact: Sampled) -> Iterator[dict[str, Any]]:
    """Differences in mean and variance of z over chains at each temperature: largest and rms over dimensions.

    The rms is in units of the Monte Carlo standard errors of the float32 chains, sd/√N and variance·√(2/(N-1)): a value
    well below 1 cannot be seen in the samples of one such batch. ``path_rms`` is the rms distance between the same
    chains in both precisions.
    """
    chains = exact.z.shape[1]
    for i, t in enumerate(SCHEDULE.temperatures().tolist()):
        z, reference = found.z[i].double(), exact.z[i].double()
        variance = reference.var(0)
        mean_off = (z.mean(0) - reference.mean(0)).abs()
        variance_off = (z.var(0) - variance).abs()
        yield {
            "t": t,
            "mean_off_max": mean_off.max().item(),
            "mean_off_se_rms": _rms(mean_off / (variance / chains).sqrt()),
            "variance_off_max": variance_off.max().item(),
            "variance_off_se_rms": _rms(variance_off / variance / (2 / (chains - 1)) ** 0.5),
            "path_rms": _rms(z - reference),
        }


def estimates(found: Sampled, exact: Sampled) -> dict[str, float]:
    """Short-run evidence, left and right sums in nats, its error with paired standard error, gradient agreement."""
    temperatures = SCHEDULE.temperatures()
    curves = [sampled.log_likelihood.double().cpu() for sampled in (found, exact)]
    each, reference = (evidence.trapezium(temperatures, curve) for curve in curves)
    left, right = evidence.bracket(temperatures, curves[0].mean(1))
    off = each - reference
    row = {
        "short_run_evidence": each.mean().item(),
        "left_sum": left.item(),
        "right_sum": right.item(),
        "short_run_evidence_off": off.mean().item(),
        "short_run_evidence_off_se": (off.std() / len(off) ** 0.5).item(),
    }
    for network, gradient in found.gradients.items():
        other = exact.gradients[network]
        row[f"{network}_cosine"] = cosine_similarity(gradient.double(), other.double(), dim=0).item()
        row[f"{network}_norm_ratio"] = (gradient.norm() / other.norm()).item()
    return row


def compare(model: LatentEBM, x: Tensor) -> Iterator[Group]:
    """Tables of moments for each precision other than float32, and one of all estimates."""
    exact = sample(model, x, "float32")
    others = {name: sample(model, x, name) for name in precisions(x.device) if name != "float32"}
    others[OTHER_NOISE] = sample(model, x, OTHER_NOISE, 1)
    facts = {"images": len(x), "steps": model.posterior_sampler.num_steps}
    for name, found in others.items():
        yield Group("moments of z", f"{name} against float32", facts, list(moments(found, exact)))
    rows: list[dict[str, Any]] = [
        {"precision": name} | estimates(found, exact) for name, found in {"float32": exact, **others}.items()
    ]
    yield Group("estimates", "in nats; gradients against float32's", facts, rows)


def brief_digits(device: torch.device, updates: int) -> LatentEBM:
    """A model of the digits after some updates: enough for its energy and images to differ from noise."""
    data = Digits()
    data.setup()
    model = build(NETWORKS["digits"], device, objective=objective("endpoints", SCHEDULE.num_temperatures))
    model.chains.compile = "off"
    settings = ((model.energy, optim.DecayedAdam(5e-5, 5e-6)), (model.generator, optim.DecayedAdam(1e-3, 1e-4)))
    optimizer, _ = optim.build(settings)
    batches = iter(())  # type: ignore[var-annotated]
    for step in range(updates):
        batch = next(batches, None)
        if batch is None:
            batches = iter(data.train_dataloader())
            batch = next(batches)
        optimizer.zero_grad()
        # step None: no inner rungs, which the gradient does not need
        model.objective(model, batch.to(device), model.stream("training", step), step=None).loss.backward()
        optimizer.step()
    return model


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("benchmarks.precision", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", help="written by train.py; default: digits, trained briefly")
    parser.add_argument("--images", type=int, default=297, help="held-out images, one chain each (default 297)")
    parser.add_argument("--updates", type=int, default=200, help="of the brief training (default 200)")
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--json", type=Path, default=Path("runs/precision.json"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if arguments.checkpoint:
        model = checkpoints.load_model(arguments.checkpoint).to(device)
        data = checkpoints.load_data(arguments.checkpoint)
    else:
        model, data = brief_digits(device, arguments.updates), Digits()
    x = (data.held_out_images[: arguments.images].float() / 127.5 - 1).to(device)
    facts = report.environment(device) | {"model": arguments.checkpoint or f"digits, {arguments.updates} updates"}
    print(", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
    groups = list(compare(model, x))
    for group in groups:
        print(report.markdown(group))
    report.write(arguments.json, facts, groups)
    return 0


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()


if __name__ == "__main__":
    raise SystemExit(main())
