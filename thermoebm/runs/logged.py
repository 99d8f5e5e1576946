"""Names of the logged metrics that a study analyses, shared by its tables and TensorBoard, and their older names."""

import re
from collections.abc import Collection, Iterable

#: Definition of the gradient variance -> its logged name. (The first is the report's; see thermoebm/gradients.)
VARIANCES = {
    "across parameters": "gradient_variance/across_parameters/both",
    "per parameter": "gradient_variance/per_parameter/total/both",
    "per parameter, normalised": "gradient_variance/per_parameter/normalised/both",
}

#: The group of charts that TensorBoard opens on: it sorts by name, capitals first.
OVERVIEW = "Overview"
_DISTANCES = "fidelity/(train|test)/(KID|KD|FID|FD).*_inf"
_MATTERS = "|".join(["(train|val)/loss", "val/(short_run_)?evidence", _DISTANCES, *VARIANCES.values()])

#: Held-out measures of short chains, which version 0.1.0 logged without saying so.
_SHORT_RUN = ("evidence", "evidence_se", "nll", "bits_per_dimension")


def matters(name: str) -> bool:
    """Whether a metric belongs to the overview: loss, short-run evidence, distances at N = ∞, gradient variance."""
    return re.fullmatch(_MATTERS, name) is not None


def distance(names: Collection[str], kind: str, split: str = "test") -> str | None:
    """The name of an extrapolated distance to real images, or None if there is none.

    Args:
        names: Logged names or columns of a table, such as ``fidelity/test/KD[classifier:digits]_inf`` or
            ``fidelity/test/KID_inf``.
        kind: ``kernel`` (KID or KD with the cubic kernel, else with the report's own) or ``frechet`` (FID or FD, else
            the quantity that the report's code calls so, which is no Fréchet distance).
        split: ``test`` or ``train``: the real images that samples are compared with.
    """
    stems = {"kernel": ("KID", "KD", "KID-rbf", "KD-rbf"), "frechet": ("FID", "FD", "pseudo-FID")}[kind]
    for stem in stems:
        for name in names:
            metric = name.removeprefix(f"fidelity/{split}/")
            if metric != name and metric.endswith("_inf") and metric.removesuffix("_inf").split("[")[0] == stem:
                return name
    return None


def now(name: str) -> str:
    """What a held-out metric is called now, by its name in version 0.1.0; other names are returned as they are.

    ``val/nll`` is ``val/short_run_nll``; ``train/nll`` is the objective's own estimate and keeps its name.
    """
    stage, _, measure = name.rpartition("/")
    return f"{stage}/short_run_{measure}" if stage in ("val", "test") and measure in _SHORT_RUN else name


def renamed(names: Iterable[str]) -> dict[str, str]:
    """The names in a table or row of version 0.1.0 that have changed, and what they are called now.

    Empty for a newer one, where ``evidence`` is no short-run measure: it has a short-run name, or says by which
    ``evidence_method`` or with which Monte Carlo error its evidence was measured.

    Args:
        names: All columns of the table, those of an evaluation beginning with ``test/``.
    """
    names = list(names)
    measures = [name.rpartition("/")[2] for name in names]
    newer = ("evidence_method", "evidence_mc_se")
    if any(measure.startswith("short_run_") or measure in newer for measure in measures):
        return {}
    return {name: now(name) for name in names if now(name) != name}
