"""Names beside the points of a drawing."""

from itertools import combinations, pairwise

import matplotlib.style
import numpy as np
import pytest

from palaver.report.callouts import name_points
from palaver.report.drawing import STYLE, panel


@pytest.mark.parametrize("count", [1, 4, 8])
@pytest.mark.parametrize("steep", [0.1, 1.0])
def test_names_hide_neither_points_nor_each_other(count, steep):
    points = [(float(x), 80 + steep * x) for x in range(count)]
    names = [f"a configuration, number {number}" for number in range(count)]
    line = np.array(points).repeat(2, axis=0)[:-1] if count > 1 else np.array([points[0], (1.0, 80.0)])
    line[1::2, 1] = line[:-1:2, 1]
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = panel(4.0)
        axes.plot(*np.array(points).T, "o")
        axes.set(xlim=(-1, count), ylim=(70, 90))
        name_points(axes, points, names, others=np.zeros((0, 2)), line=line)
        figure.draw_without_rendering()
        at = axes.transData.transform(points)
        boxes = [text.get_window_extent() for text in axes.texts]
    assert [" ".join(text.get_text().split()) for text in axes.texts] == names
    inside = axes.get_window_extent()
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert not any(box.contains(*point) for box in boxes for point in at)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 and box.y1 <= inside.y1 for box in boxes)
    if count * steep == 8:  # crowded: names may hide the line
        return
    for (x0, y0), (x1, y1) in pairwise(axes.transData.transform(line)):
        steps = np.linspace((x0, y0), (x1, y1), 50)
        assert not any(box.contains(*step) for box in boxes for step in steps)
