"""The settings that the report varies, out of a run's whole config: for a study's tables and TensorBoard's alike."""

from collections.abc import Mapping
from typing import Any

Setting = str | int | float | None

# Of one's own images the class says nothing.
_OWN = ("ImageFolder", "Arrays")


def settings(config: Any) -> dict[str, Setting]:
    """The settings of :data:`thermoebm.study.planning.IDENTITY`, from ``dataset`` on; None where a run has none.

    Args:
        config: As ``config.yaml`` has it, defaults included.
    """
    data = _class(at(config, "data"))
    objective = at(config, "model.init_args.objective")
    ti = _class(objective) == "ThermodynamicIntegration"
    names = {"MaximumLikelihood": "mle", "ThermodynamicIntegration": "ti"}
    schedule = "model.init_args.objective.init_args.schedule"
    return {
        "dataset": at(config, "name") if data in _OWN else data,
        "objective": names.get(kind, kind) if (kind := _class(objective)) else None,
        "estimator": at(config, "model.init_args.objective.init_args.estimator") if ti else None,
        "power": _number(at(config, f"{schedule}.power")) if ti else None,
        "batch_size": at(config, "data.init_args.batch_size"),
        "num_temperatures": at(config, f"{schedule}.num_temperatures") if ti else None,
        "posterior_steps": at(config, "model.init_args.posterior_sampler.init_args.num_steps"),
        "prior_steps": at(config, "model.init_args.prior_sampler.init_args.num_steps"),
        "eta": _number(at(config, "model.init_args.objective.init_args.eta")) if ti else None,
        "features": at(config, "model.init_args.generator.init_args.features"),
    }


def at(config: Any, path: str) -> Any:
    """What stands at a dotted path, or None."""
    for name in path.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def _class(part: Any) -> str | None:
    """The last part of its class path: ``thermoebm.data.Digits`` and ``Digits`` are both Digits."""
    path = part if isinstance(part, str) else at(part, "class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
