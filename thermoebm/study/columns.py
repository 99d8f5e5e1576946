"""The names of what a study's tables hold, and the few groupings that claims, figures and page share.

``results.csv`` has a row for each run and epoch, ``final.csv`` one for each run. Both begin with :data:`IDENTITY`; then
come the names that a run logs (``gradient_variance/...``, ``fidelity/...``, ``val/...``, ``cost/...``).
"""

import pandas as pd

#: What a run is: the study's words for it, then the settings that the report varies.
IDENTITY = (
    "study",
    "run",  # hash of its config
    "cell",
    "group",  # of cells: batch, power, num_temperatures, posterior_steps, eta, width, ...
    "seed",
    "dataset",
    "objective",  # mle or ti
    "estimator",  # of ti; empty for mle
    "power",  # p; empty for mle
    "batch_size",
    "num_temperatures",  # N_t; empty for mle
    "posterior_steps",  # K of the posterior chains
    "prior_steps",
    "eta",  # empty for mle
    "features",  # width of the generator
)

#: Columns of both tables that hold words, also where these look like numbers: Python 3.10, a cell called 6.
WORDS = (
    *("study", "run", "cell", "group", "dataset", "objective", "estimator"),
    *("status", "device", "commit", "python", "torch", "lightning", "thermoebm", "folder"),
)

#: Which variance of the gradient -> its column. (The first is the report's; see thermoebm/gradients.py.)
VARIANCES = {
    "across parameters": "gradient_variance/across_parameters/both",
    "per parameter": "gradient_variance/per_parameter/total/both",
    "per parameter, normalised": "gradient_variance/per_parameter/normalised/both",
}

#: Regimes of the report's figures 5, 10, 18 and 19, in the order in which they are shown.
REGIMES = ("vanilla", "0 < p ≤ 1", "p > 1")


def regime(table: pd.DataFrame) -> pd.Series:
    """One of :data:`REGIMES` for each row."""
    power = pd.to_numeric(table["power"])
    small = (power <= 1).map({True: REGIMES[1], False: REGIMES[2]})
    return small.where(table["objective"] == "ti", REGIMES[0])


def is_extension(table: pd.DataFrame) -> pd.Series:
    """Whether a row varies something besides batch size and power, as in the report's figure 6."""
    return ~table["group"].isin(["batch", "power"])


def distance(table: pd.DataFrame, kind: str, split: str = "test") -> str | None:
    """The column of an extrapolated distance to real images, or None if the table has none.

    Args:
        table: With columns such as ``fidelity/test/KD[classifier:digits]_inf`` or ``fidelity/test/KID_inf``.
        kind: ``kernel`` (KID or KD with the cubic kernel, else with the report's own) or ``frechet`` (FID or FD, else
            what the report's code has under that name, which is no Fréchet distance).
        split: ``test`` or ``train``: the real images that samples are compared with.
    """
    stems = {"kernel": ("KID", "KD", "KID-rbf", "KD-rbf"), "frechet": ("FID", "FD", "pseudo-FID")}[kind]
    for stem in stems:
        for column in table.columns:
            name = column.removeprefix(f"fidelity/{split}/")
            if name != column and name.endswith("_inf") and name.removesuffix("_inf").split("[")[0] == stem:
                return column
    return None
