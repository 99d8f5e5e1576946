"""Which runs of a table a claim is tested on."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from thermoebm.study.planning.columns import is_extension, regime

#: Runs that agree in these settings differ only by chance; a claim lets one of the settings vary.
SETTINGS = [
    *("objective", "estimator", "power", "batch_size", "num_temperatures"),
    *("posterior_steps", "prior_steps", "eta", "features"),
]

Select = Callable[[pd.DataFrame], pd.DataFrame]


def in_regime(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The runs of one regime, without those that vary anything besides batch size and power."""
    return runs[(regime(runs) == name) & ~is_extension(runs)]


def varied(runs: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The runs of the group named after a setting, and the runs of the groups batch and power that differ from them in
    this setting alone.

    If the group's own runs differ in other settings too, only the runs with their most frequent combination are
    kept.
    """
    others = [name for name in SETTINGS if name != setting]
    keys = pd.Series([tuple(map(str, row)) for row in runs[others].itertuples(index=False)], runs.index, dtype=object)
    group = runs["group"] == setting
    shared = Counter(keys[group]).most_common(1)
    return runs[(group | ~is_extension(runs)) & keys.isin([key for key, _ in shared])]


def plain(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of all regimes, without those that vary anything besides batch size and power."""
    return runs[~is_extension(runs)]


def powers(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of thermodynamic integration that vary nothing besides the power."""
    return runs[(runs["objective"] == "ti") & ~is_extension(runs)]


def regime_runs(name: str) -> Select:
    return lambda runs: in_regime(runs, name)


def varied_runs(setting: str) -> Select:
    return lambda runs: varied(runs, setting)


_MOST_NAMED = 5


def finite(runs: pd.DataFrame, measured: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """The runs whose measured columns are finite, and a sentence that names the others; empty if there are none.

    A run that has diverged has no finite distance. Without it its cell looks better than it is, so that it must not be
    left out in silence.

    Args:
        runs: A row for each run.
        measured: Columns, and what to call each.
    """
    spoilt = pd.DataFrame({of: ~np.isfinite(runs[column].to_numpy(float)) for column, of in measured.items()})
    spoilt.index = runs.index
    out = spoilt.any(axis=1)
    if not out.any():
        return runs, ""
    names = [_name(row) for row in runs[out].to_dict("records")]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    what = " or ".join(of for of in spoilt if spoilt[of].any())
    told = f"{len(names)} of {len(runs)} runs left out, as their {what} is not finite: "
    return runs[~out], told + ", ".join(names[:_MOST_NAMED]) + more


def _name(run: dict[str, object]) -> str:
    """A run's cell and seed, or what of its names there is."""
    cell = next((str(run[key]) for key in ("cell", "run", "group") if isinstance(run.get(key), str)), "a run")
    seed = run.get("seed")
    return cell if seed is None or pd.isna(seed) else f"{cell} (seed {seed:g})"
