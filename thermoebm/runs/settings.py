"""Extracts the settings that the report varies from a run's config, for the tables of studies and TensorBoard."""

from collections.abc import Mapping
from typing import Any

Setting = str | int | float | None

# The class does not identify the data set if the images are the user's own.
_OWN = ("ImageFolder", "Arrays")


def settings(config: Any) -> dict[str, Setting]:
    """The settings of :data:`thermoebm.study.planning.IDENTITY`, from ``dataset`` on; None where one does not apply.

    Args:
        config: Contents of ``config.yaml``, defaults included.
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
    """The value at a dotted path, or None."""
    for name in path.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def _class(part: Any) -> str | None:
    """The last component of a class path: ``thermoebm.data.Digits`` and ``Digits`` are both Digits."""
    path = part if isinstance(part, str) else at(part, "class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
