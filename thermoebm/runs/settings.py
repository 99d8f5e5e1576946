"""Extracts the settings that the report varies from a run's config, for the tables of studies and TensorBoard."""

from collections.abc import Mapping
from typing import Any

Setting = str | int | float | None

# Where the images are the user's own, the class does not say which they are: the folder or file does.
_OWN = ("ImageFolder", "Arrays")


def settings(config: Any) -> dict[str, Setting]:
    """The settings of :data:`thermoebm.study.planning.IDENTITY`, from ``dataset`` on; None where one does not apply.

    Args:
        config: Contents of ``config.yaml``, defaults included.
    """
    objective = at(config, "model.init_args.objective")
    ti = _class(objective) == "ThermodynamicIntegration"
    names = {"MaximumLikelihood": "mle", "ThermodynamicIntegration": "ti"}
    power, intervals = _ladder(at(objective, "init_args.schedule")) if ti else (None, None)
    return {
        "dataset": _dataset(at(config, "data")),
        "objective": names.get(kind, kind) if (kind := _class(objective)) else _other_model(at(config, "model")),
        "estimator": at(config, "model.init_args.objective.init_args.estimator") if ti else None,
        "power": power,
        "batch_size": at(config, "data.init_args.batch_size"),
        "num_temperatures": intervals,
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


def _dataset(data: Any) -> str | None:
    """The data set's name: its class, or the title of the user's own images, which their distances have as well."""
    kind, root = _class(data), at(data, "init_args.root")
    if kind not in _OWN or not isinstance(root, str):
        return kind
    from thermoebm.data import named  # and with it torch, which a study's tables do without

    return named(kind.lower(), root=root).title


def _class(part: Any) -> str | None:
    """The last component of a class path: ``thermoebm.data.Digits`` and ``Digits`` are both Digits."""
    path = part if isinstance(part, str) else at(part, "class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else None


def _other_model(model: Any) -> str | None:
    """The class of a model that has no objective of its own, such as VAE, which it then stands for."""
    kind = _class(model)
    return None if kind == "LatentEBM" else kind


def _ladder(schedule: Any) -> tuple[float | None, int | None]:
    """p of a power law, and the number of temperatures: its N_t, and the number of intervals of other schedules."""
    kind = _class(schedule)
    fields = at(schedule, "init_args") if kind else schedule
    if kind in (None, "PowerLaw"):  # which is written without its class
        return _number(at(fields, "power")), at(fields, "num_temperatures")
    points = at(fields, "points")
    return None, len(points) - 1 if isinstance(points, list) else at(fields, "num_intervals")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
