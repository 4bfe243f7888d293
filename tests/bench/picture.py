"""The picture of the report: each ratio as a bar, with its spread and its goal."""

import io
from collections.abc import Sequence
from typing import Any, Final

from bench.figure import Figure

_MET: Final = "#2f7d4f"
_NOT_MET: Final = "#b4532a"
_NO_GOAL: Final = "#5b7083"


def draw(figures: Sequence[Figure]) -> bytes:
    """Draw the ratios among figures as SVG. Raises ImportError without matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    ratios = [one for one in figures if one.unit == "x"][::-1]
    # The same figures give the same file, and its text stays text.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 11}):
        canvas = Canvas(figsize=(9, 1.2 + 0.5 * len(ratios)), facecolor="white", layout="constrained")
        axes = canvas.add_subplot()
        for position, one in enumerate(ratios):
            _draw_bar(axes, position, one)
        axes.set_yticks(range(len(ratios)), [one.what for one in ratios])
        axes.axvline(1, color="#999999", linewidth=0.8)
        axes.set_xlim(0, 1.2 * max([1.0, *(max(one.sample.high, _bound(one)) for one in ratios)]))
        axes.set_xlabel("ratio; bar: median, line: smallest to largest of the rounds, tick: goal")
        axes.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        canvas.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw_bar(axes: Any, position: int, one: Figure) -> None:
    sample = one.sample
    colour = {"met": _MET, "not met": _NOT_MET}.get(one.verdict, _NO_GOAL)
    axes.barh(position, sample.median, height=0.6, color=colour)
    axes.plot([sample.low, sample.high], [position, position], color="black", linewidth=1.5)
    if one.goal is not None:
        axes.plot([_bound(one)] * 2, [position - 0.4, position + 0.4], color="black", linewidth=2.5)
    end = max(sample.high, _bound(one))
    axes.annotate(f"{sample.median:.2f}", (end, position), (6, 0), textcoords="offset points", va="center")


def _bound(one: Figure) -> float:
    return one.goal.bound if one.goal is not None else 0.0
