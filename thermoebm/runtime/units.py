"""Numbers formatted for people: three digits with a unit prefix, and durations."""

import math


def short(value: float) -> str:
    """Formats a non-negative number with three significant digits, or with all digits before the decimal point.

    >>> short(0.012345), short(12345.6)
    ('0.0123', '12,346')
    """
    places = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(places, 0)}f}"


def scaled(value: float) -> str:
    """Formats a number with three digits and the prefix of its unit, which the caller appends.

    >>> scaled(2.7e17) + "FLOP"
    '270 PFLOP'
    """
    power = min(int(math.log10(value) // 3), 6) if value >= 1 else 0
    return f"{short(value / 1000**power)} {' kMGTPE'[power].strip()}"


def duration(seconds: float) -> str:
    """Formats seconds as a duration such as 45 s, 12 min, 3 h 20 min or 100 h.

    >>> duration(44.7), duration(700), duration(12000), duration(400000)
    ('45 s', '12 min', '3 h 20 min', '111 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 6000 else f"{round(minutes / 60)} h"
