"""Names of the logged metrics that a study analyses, shared by its tables and TensorBoard."""

import re
from collections.abc import Collection

#: Definition of the gradient variance -> its logged name. (The first is the report's; see thermoebm/gradients.)
VARIANCES = {
    "across parameters": "gradient_variance/across_parameters/both",
    "per parameter": "gradient_variance/per_parameter/total/both",
    "per parameter, normalised": "gradient_variance/per_parameter/normalised/both",
}

#: The group of charts that TensorBoard opens on: it sorts by name, capitals first.
OVERVIEW = "Overview"
_DISTANCES = "fidelity/(train|test)/(KID|KD|FID|FD).*_inf"
_MATTERS = "|".join(["(train|val)/loss", "val/evidence", _DISTANCES, *VARIANCES.values()])


def matters(name: str) -> bool:
    """Whether a metric belongs to the overview: loss, evidence, distances at N = ∞, gradient variance."""
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
