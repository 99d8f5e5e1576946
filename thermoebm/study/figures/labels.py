"""Places text on axes so that it does not overlap: labels beside points, and tick labels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation
from matplotlib.ticker import AutoLocator, MaxNLocator
from matplotlib.transforms import Bbox

Place = tuple[float, float, Literal["left", "center", "right"]]

#: Possible places of a label, as offsets in points from its data point: (x, y, alignment), in order of preference.
SIDES: list[Place] = [(4, 0, "left"), (-4, 0, "right"), (0, 0, "center")]
PLACES: list[Place] = [(4, 3, "left"), (-4, 3, "right"), (4, -9, "left"), (-4, -9, "right")]
PLACES += [(x, y, alignment) for y in (9, -15, 16, -22, 23, -29) for x, _, alignment in SIDES]


class PointLabel(Annotation):
    """A label beside a mean with error bars; its place is chosen once the figure is laid out."""

    def __init__(self, text: str, x: float, y: float, sd_x: float = 0.0, sd_y: float = 0.0) -> None:
        super().__init__(text, (x, y), xytext=PLACES[0][:2], textcoords="offset points", fontsize=7)
        self.deviations = (sd_x, sd_y)
        self.set_in_layout(False)
        self.set_annotation_clip(False)

    def obstacles(self) -> list[Bbox]:
        """The boxes of the marker and the error bars, in pixels."""
        assert self.axes is not None
        assert self.figure is not None
        pixel = self.figure.dpi / 72
        spread = np.array(self.deviations)
        (x, y), (left, bottom), (right, top) = self.axes.transData.transform(
            [self.xy, np.array(self.xy) - spread, np.array(self.xy) + spread]
        )
        marker, line = 3 * pixel, pixel
        return [
            Bbox([[x - marker, y - marker], [x + marker, y + marker]]),
            Bbox([[left, y - line], [right, y + line]]),
            Bbox([[x - line, bottom], [x + line, top]]),
        ]

    def put(self, place: Place, renderer: RendererBase) -> Bbox:
        """Moves the label to a place; returns the box that it then covers, in pixels."""
        self.set_position(place[:2])
        self.set_horizontalalignment(place[2])
        return Bbox(self.get_window_extent(renderer))


def arrange(axes: Axes, renderer: RendererBase) -> None:
    """Places each point's label where it covers the least and stays on the axes.

    The label should also be nearer to its own point than to any other. The figure must have been laid out.
    """
    labels = [text for text in axes.texts if isinstance(text, PointLabel)]
    obstacles = [box for label in labels for box in label.obstacles()]
    frame = axes.get_window_extent(renderer)
    placed: dict[PointLabel, Bbox] = {}

    def cost(label: PointLabel, place: Place) -> float:
        """The penalty of a place, in units of the label's area."""
        box = label.put(place, renderer)
        area = box.width * box.height
        covered = sum(_common(box, other) for of, other in placed.items() if of is not label) * 2
        covered += sum(_common(box, other) for other in obstacles)
        own = _distance(box, label)
        strange = sum(_distance(box, other) <= own for other in labels if other is not label)
        return covered / area + 10 * (1 - _common(box, frame) / area) + strange + 0.01 * PLACES.index(place)

    for _ in range(3):  # repeated, as the first labels are placed before the last ones
        for label in labels:
            costs = [cost(label, place) for place in PLACES]
            placed[label] = label.put(PLACES[costs.index(min(costs))], renderer)


def thin_ticks(axes: Axes, renderer: RendererBase) -> None:
    """Reduces the ticks of x until their labels have room."""
    if not isinstance(axes.xaxis.get_major_locator(), AutoLocator):
        return
    for bins in (6, 5, 4, 3, 2):
        axes.xaxis.set_major_locator(MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10]))
        boxes: Sequence[Any] = [text.get_window_extent(renderer) for text in axes.get_xticklabels()]
        if all(left.x1 + left.height / 2 < right.x0 for left, right in pairwise(boxes)):
            return


def _common(a: Bbox, b: Bbox) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))


def _distance(box: Bbox, label: PointLabel) -> float:
    """The distance from a box to the data point of a label, in pixels."""
    assert label.axes is not None
    x, y = label.axes.transData.transform(label.xy)
    return float(np.hypot(max(box.x0 - x, x - box.x1, 0), max(box.y0 - y, y - box.y1, 0)))
