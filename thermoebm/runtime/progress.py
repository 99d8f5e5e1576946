"""Progress bars for terminals and for log files."""

import sys

from tqdm import tqdm


def bar(total: int, title: str | None, unit: str) -> tqdm:
    """A progress bar, redrawn in place on a terminal, a line every ten seconds elsewhere; no bar without a title.

    The bar is removed when it is done. It does not appear for work that takes less than a second.
    """
    moving = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        disable=title is None,
        leave=False,
        delay=1,
        mininterval=0.2 if moving else 10,
        ascii=None if moving else True,
    )
