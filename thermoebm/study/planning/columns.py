"""The column names of a study's tables, and the few groupings of runs that claims, figures and page share.

``results.csv`` has a row for each run and epoch, ``final.csv`` one for each run. Both begin with :data:`IDENTITY`; the
metrics follow, under the names that a run logs (``gradient_variance/...``, ``fidelity/...``, ``val/...``,
``cost/...``; :mod:`thermoebm.runs.logged`).
"""

import pandas as pd

#: Columns that identify a run: its names in the study, then the settings that the report varies.
IDENTITY = (
    "study",
    "run",  # hash of its config
    "cell",
    "group",  # the setting that the cell varies: batch, power, num_temperatures, posterior_steps, eta, width, ...
    "seed",
    "dataset",
    "objective",  # mle or ti
    "estimator",  # the gradient estimator of ti; empty for mle
    "power",  # p; empty for mle
    "batch_size",
    "num_temperatures",  # N_t; empty for mle
    "posterior_steps",  # K, the length of the posterior chains
    "prior_steps",
    "eta",  # empty for mle
    "features",  # the generator's width
)

#: Text columns of both tables, to be read as text even where a value looks like a number: Python 3.10, a cell called 6.
WORDS = (
    *("study", "run", "cell", "group", "dataset", "objective", "estimator"),
    *("status", "device", "commit", "python", "torch", "lightning", "thermoebm", "folder"),
)

#: Regimes of the report's figures 5, 10, 18 and 19, in the order in which they are shown.
REGIMES = ("vanilla", "0 < p ≤ 1", "p > 1")


def regime(table: pd.DataFrame) -> pd.Series:
    """The regime of each row, one of :data:`REGIMES`."""
    power = pd.to_numeric(table["power"])
    small = (power <= 1).map({True: REGIMES[1], False: REGIMES[2]})
    return small.where(table["objective"] == "ti", REGIMES[0])


def is_extension(table: pd.DataFrame) -> pd.Series:
    """Whether a row varies something besides batch size and power, as in the report's figure 6."""
    return ~table["group"].isin(["batch", "power"])
