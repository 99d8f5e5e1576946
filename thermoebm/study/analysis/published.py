"""The report's published results, one row for each of its training runs, in the columns of a study's ``final.csv``."""

from importlib.resources import files

import pandas as pd

#: The name of the study in the table of published results.
STUDY = "published"

#: The settings whose claims their shared processes make untestable, and why. N_t has three cells at p = .1, each of one
#: process, as have the cells of η, which follow one law and differ as clearly.
TAKEN_BACK = {
    "num_temperatures": (
        "a difference of processes cannot be told from one of N_t: of the three processes of one law (η = 1, 2, 4) two "
        "differ with p = .003 in variance, and two with p = .01 in distance"
    )
}


def published() -> pd.DataFrame:
    """All 168 runs at their last epoch, the 50th.

    The numbers are the final rows of the tables that the report's authors published beside their code. Metrics that
    only their code computes have names of their own: ``KID-rbf`` uses their kernel, and ``pseudo-FID`` is no Fréchet
    distance (it subtracts a product of Cholesky factors). ``seed`` counts repetitions. The repetitions of a cell shared
    one process and one order of the images. As their samples are detached, η changed no gradient, so that runs at
    η = 1, 2 and 4 followed the same law.
    """
    with (files("thermoebm.study.analysis") / "published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"study": str, "run": str, "cell": str})
