"""What a run logs, against what EarlyStopping and checkpoints look for, by ``monitor`` or in a filename."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from thermoebm.callbacks import (
    AnnealedEvidence,
    BestCheckpoint,
    ChainDiagnostics,
    Cost,
    EnergyAlarm,
    GenerationMetrics,
    GradientVariance,
    ParameterAlarm,
    PosteriorAlarm,
    PriorStability,
    TriangleAlarm,
)
from thermoebm.callbacks.best_checkpoint import MONITOR
from thermoebm.modules import DivergenceTriangle, ImageModel, LatentEBM
from thermoebm.runs.logged import now
from thermoebm.samplers import ULA

# What is logged under these names is listed once more here; tests/cli/test_monitors.py compares both lists. A name with
# a stroke at its end stands for all that begin with it.
_OF_LOSS = ("loss", "log_likelihood", "energy_posterior", "energy_prior")
_OF_LADDER = ("nll", "left_sum", "right_sum")
_HELD_OUT = (*_OF_LOSS, "short_run_evidence", "short_run_nll", "left_sum", "right_sum", "reconstruction_error")
_OF_VAE = ("loss", "reconstruction", "kl_to_prior", "evidence_bound")
_BOUND = "val/evidence_bound"  # by which configs/vae.yaml keeps the best
_OF_TRIANGLE = (*_OF_VAE, "recovery", "energy_data", "energy_generated")
_BY_CALLBACKS: dict[type, tuple[str, ...]] = {
    AnnealedEvidence: ("val/evidence", "val/evidence_se", "val/evidence_mc_se"),
    ChainDiagnostics: ("chains/",),
    Cost: ("cost/",),
    EnergyAlarm: ("prior/energy_tilt", "prior/mean_square", "prior/corrected_acceptance", "prior/rollbacks"),
    PriorStability: (
        *("prior/step_times_curvature", "prior/step_times_curvature_max"),
        *("prior/longer_chain_gap", "prior/longer_chain_distance"),
    ),
    TriangleAlarm: tuple(f"triangle/{n}" for n in ("energy_gap", "mean_square", "active_latents", "rollbacks")),
    ParameterAlarm: ("training/rollbacks",),
    PosteriorAlarm: ("posterior/step_times_curvature", "posterior/movement"),
    LearningRateMonitor: ("lr-",),
    GradientVariance: (
        *("gradient_variance/across_parameters/", "gradient_variance/running_noise_scale/"),
        "gradient_mean/across_parameters/",
    ),
}
_MEASURED: dict[
    type[GradientVariance | GenerationMetrics], tuple[str, dict[str, tuple[str, ...]]]
] = {  # the config's field, and the names by split
    GradientVariance: (
        "gradient_variance",
        {
            "train": ("gradient_variance/per_parameter/",),
            "test": ("gradient_variance/test/", "gradient_mean/test/"),
        },
    ),
    GenerationMetrics: ("fidelity", {"train": ("fidelity/train/",), "test": ("fidelity/test/",)}),
}
_OURS = ("thermoebm", "lightning", "pytorch_lightning")


class _Wanted(NamedTuple):
    name: str
    by: str  # whose it is, as the subject of a sentence
    hint: str  # what to do if it is logged too late


def check(trainer: Any, model: ImageModel) -> None:
    """Raises a ValueError if a callback looks for what this run never logs; the message has the nearest name.

    A model, objective or callback from outside may log anything: there, :func:`missed` tells it once it is missed.
    """
    parts = (model, getattr(model, "objective", model), *trainer.callbacks)
    if any(type(part).__module__.partition(".")[0] not in _OURS for part in parts):
        return
    logged, off = _logged(trainer, model)
    default = MONITOR if isinstance(model, LatentEBM) else _BOUND
    for name, by, _ in _wanted(trainer.callbacks, default):
        if any(name == known or (known[-1] in "/-" and name.startswith(known)) for known in logged):
            continue
        for begin, remedy in off.items():
            if name.startswith(begin):
                raise ValueError(f"{by} is {name}, which this run does not measure: {remedy}.")
        raise ValueError(f"{by} is {name}, which nothing logs; {_nearest(name, [*logged, *off])}.")


def missed(error: BaseException, trainer: Any) -> str | None:
    """A sentence for the error of a callback that missed what it looks for; None: the error is another one."""
    metrics = trainer.callback_metrics
    for name, by, hint in _wanted(trainer.callbacks, MONITOR):
        if name in str(error) and name not in metrics:
            return (
                f"{by} is {name}, which nothing had logged when it was looked for in epoch "
                f"{trainer.current_epoch + 1}; {_nearest(name, list(metrics))}. {hint}"
            )
    return None


def _wanted(callbacks: list[Any], default: str | None = None) -> Iterator[_Wanted]:
    for callback in callbacks:
        kind = type(callback).__name__
        if isinstance(callback, EarlyStopping):
            hint = (
                "strict: false waits for the first value; check_on_train_epoch_end: true looks at an epoch's very end."
            )
            yield _Wanted(callback.monitor, f"{kind}'s monitor", hint)
        elif isinstance(callback, BestCheckpoint):
            if callback.monitor not in (None, default):  # without validation the default of a kind keeps nothing
                yield _Wanted(str(callback.monitor), "best.monitor", "")
        elif isinstance(callback, ModelCheckpoint):
            hint = "every_n_epochs and save_on_train_epoch_end say when it looks."
            if callback.monitor not in (None, "epoch", "step"):
                yield _Wanted(str(callback.monitor), f"{kind}'s monitor", hint)
            for name in re.findall(r"\{([^:}]+)", callback.filename or ""):
                if name not in ("epoch", "step"):
                    yield _Wanted(name, f"a name in {kind}'s filename", hint)


def _logged(trainer: Any, model: ImageModel) -> tuple[list[str], dict[str, str]]:
    """The names that a run logs, and for what it could log, by how a name begins, what turns it on."""
    logged, held_out = _by_model(model)
    off = {}
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if not trainer.limit_val_batches:
        off["val/"] = f"trainer.limit_val_batches is {trainer.limit_val_batches}"
    elif every and 0 < (epochs or 0) < every:
        off["val/"] = f"trainer.check_val_every_n_epoch is {every} and trainer.max_epochs {epochs}"
    else:
        logged += [f"val/{name}" for name in held_out]
    for callback in trainer.callbacks:
        if not isinstance(callback, AnnealedEvidence) or callback.every_n_epochs:
            logged += _BY_CALLBACKS.get(type(callback), ())
        if type(callback) in _MEASURED and callback.every_n_epochs:
            logged += [name for split in callback.splits for name in _MEASURED[type(callback)][1][split]]
    for kind, (field, by_split) in _MEASURED.items():
        is_on = any(isinstance(callback, kind) and callback.every_n_epochs for callback in trainer.callbacks)
        for split, names in by_split.items():
            remedy = f"{field}.splits is without {split}" if is_on else f"{field}.every_n_epochs is 0"
            off |= dict.fromkeys(set(names) - set(logged), remedy)
    return logged, off


def _by_model(model: ImageModel) -> tuple[list[str], tuple[str, ...]]:
    """The names that a training step logs, and those of held-out images without ``val/``."""
    if not isinstance(model, LatentEBM):
        names = _OF_TRIANGLE if isinstance(model, DivergenceTriangle) else _OF_VAE
        return [f"train/{name}" for name in names], (*names, "reconstruction_error")
    ladder = _OF_LADDER if model.measures_in(0) else ()
    logged = [f"train/{name}" for name in (*_OF_LOSS, *ladder, "chains/prior/lost", "chains/posterior/lost")]
    if any(not isinstance(kernel, ULA) for kernel in (model.prior_sampler, model.posterior_sampler)):
        logged.append("train/chains/")
    return logged, _HELD_OUT


def _nearest(name: str, logged: list[str]) -> str:
    near = [now(name)] if now(name) in logged else difflib.get_close_matches(name, logged, 1, cutoff=0)
    return f"the nearest name is {near[0]}{'...' * near[0].endswith('/')}" if near else "so far nothing is logged"
