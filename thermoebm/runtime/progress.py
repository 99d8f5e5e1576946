"""Progress bars that suit where they are shown."""

import sys

from tqdm import tqdm


def bar(total: int, title: str | None, unit: str) -> tqdm:
    """A bar that moves on a terminal, and is a line every ten seconds elsewhere; none without a title.

    It is gone when it is done, and does not appear at all for what takes less than a second.
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
