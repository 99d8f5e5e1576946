"""Labels beside points, where they cover least."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

SIZE = 7  # of the font, in points
#: Where a label may go, in points from its point: (x, y, alignment). The first are the nicest.
PLACES = [
    (side * x, y, "left" if side > 0 else "right") for y in (4, -11, 13, -20, 22, -29) for x in (4,) for side in (1, -1)
]


class Point(NamedTuple):
    """What has a label: a mean and its deviations, in data units."""

    text: str
    x: float
    y: float
    sd_x: float = 0.0
    sd_y: float = 0.0


Box = tuple[float, float, float, float]  # left, bottom, right, top, in points


def place(axes: Axes, points: Sequence[Point]) -> None:
    """Writes each point's label where it covers the least of other labels, markers, error bars and the frame.

    The axes have their limits and nearly their size already.
    """
    scale = 72 / axes.figure.dpi
    frame = tuple(scale * edge for edge in axes.bbox.extents)
    taken: list[Box] = []
    for point in points:
        (left, bottom), (right, top), (x, y) = scale * axes.transData.transform(
            [(point.x - point.sd_x, point.y - point.sd_y), (point.x + point.sd_x, point.y + point.sd_y), point[1:3]]
        )
        taken += [(x - 3, y - 3, x + 3, y + 3), (left, y - 1, right, y + 1), (x - 1, bottom, x + 1, top)]
    for point in points:
        at = scale * axes.transData.transform((point.x, point.y))
        boxes = [_box(at, place, point.text) for place in PLACES]
        costs = [sum(_common(box, other) for other in taken) + 5 * _outside(box, frame) for box in boxes]
        best = int(np.argmin([cost + 0.5 * k for k, cost in enumerate(costs)]))
        taken.append(boxes[best])
        x, y, alignment = PLACES[best]
        axes.annotate(
            point.text, (point.x, point.y), xytext=(x, y), textcoords="offset points", fontsize=SIZE, ha=alignment
        )


def _box(at: np.ndarray, place: tuple[float, float, str], text: str) -> Box:
    """What a label covers."""
    width = 0.58 * SIZE * len(text)
    left = at[0] + place[0] - (0 if place[2] == "left" else width)
    return left, at[1] + place[1] - 1, left + width, at[1] + place[1] + SIZE


def _common(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, frame: Sequence[float]) -> float:
    """The area of a box that lies outside a frame, whose right edge it may pass a little."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _common(box, (frame[0], frame[1], frame[2] + 8, frame[3]))
