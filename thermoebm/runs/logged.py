"""The names under which a run logs what the study is about, for its tables and TensorBoard alike."""

from collections.abc import Collection

#: Which variance of the gradient -> its name. (The first is the report's; see thermoebm/gradients.py.)
VARIANCES = {
    "across parameters": "gradient_variance/across_parameters/both",
    "per parameter": "gradient_variance/per_parameter/total/both",
    "per parameter, normalised": "gradient_variance/per_parameter/normalised/both",
}


def distance(names: Collection[str], kind: str, split: str = "test") -> str | None:
    """The name of an extrapolated distance to real images, or None if there is none.

    Args:
        names: Such as ``fidelity/test/KD[classifier:digits]_inf`` or ``fidelity/test/KID_inf``; a table's columns.
        kind: ``kernel`` (KID or KD with the cubic kernel, else with the report's own) or ``frechet`` (FID or FD, else
            what the report's code has under that name, which is no Fréchet distance).
        split: ``test`` or ``train``: the real images that samples are compared with.
    """
    stems = {"kernel": ("KID", "KD", "KID-rbf", "KD-rbf"), "frechet": ("FID", "FD", "pseudo-FID")}[kind]
    for stem in stems:
        for name in names:
            metric = name.removeprefix(f"fidelity/{split}/")
            if metric != name and metric.endswith("_inf") and metric.removesuffix("_inf").split("[")[0] == stem:
                return name
    return None
