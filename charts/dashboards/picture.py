"""Pictures of the dashboards from what a Prometheus answers: `make pictures`.

No Grafana takes part. The JSON's own grid, titles, units, thresholds, texts and queries are drawn by matplotlib, so
that one sees without Grafana whether a panel tells what it should. Colours and fonts are near to Grafana's. A
dashboard of which most panels have no answer is left out: a picture of empty panels shows nothing.
"""

import argparse
import io
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from charts.dashboards.__main__ import FILES
from charts.dashboards.answers import (
    Prometheus,
    QueryFailed,
    Series,
    Target,
    Window,
    read_board,
    targets_of,
)

_COLUMNS: Final = 24
_WIDTH_IN: Final = 15.0
_ROW_IN: Final = 0.36
_DPI: Final = 76
_BACKGROUND, _PANEL, _TEXT, _FAINT, _GRID = "#111217", "#181b1f", "#d8d9da", "#8e8e8e", "#2c3235"
_COLOURS: Final = {
    "green": "#56a64b",
    "yellow": "#e0b400",
    "orange": "#ff780a",
    "red": "#e02f44",
    "blue": "#3274d9",
}
_PALETTE: Final = (
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a",
)  # fmt: skip
_EXEMPLARS: Final = 150
_BYTES: Final = ("B", "KiB", "MiB", "GiB", "TiB")

Board = Mapping[str, Any]
Panel = Mapping[str, Any]
Answers = Sequence[tuple[Target, list[Series]]]


def main() -> int:
    """Draw every dashboard. Exit code 1 when the Prometheus can't be asked."""
    parser = argparse.ArgumentParser(description="Draw the dashboards from what a Prometheus answers.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address [%(default)s]")
    parser.add_argument("--minutes", type=float, default=15, help="time range, up to now [%(default)s]")
    parser.add_argument("--scrape-interval", type=float, default=5, metavar="SECONDS", help="[%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("docs/dashboards"), help="folder [%(default)s]")
    given = parser.parse_args()
    now = time.time()
    window = Window(now - given.minutes * 60, now, given.scrape_interval)
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        for file in sorted(FILES.glob("*.json")):
            board = read_board(file)
            answers = ask(board, Prometheus(given.prometheus), window)
            if not has_enough(answers):
                print(f"{file.stem}: left out, most of its panels have no answer")
                continue
            picture = given.output / f"{file.stem}.png"
            save(draw(board, answers, Prometheus(given.prometheus), window), picture)
            print(picture)
    except QueryFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def save(figure: Figure, picture: Path) -> None:
    """Save a picture with few colours, so that it takes a third of the room."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    Image.open(drawn).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(picture, optimize=True)


def ask(board: Board, prometheus: Prometheus, window: Window) -> Mapping[int, Answers]:
    """Ask every query of a dashboard; gives the answers by panel. Raises QueryFailed."""
    answers: dict[int, list[tuple[Target, list[Series]]]] = {}
    for target in targets_of(board):
        answers.setdefault(target.panel["id"], []).append((target, prometheus.answer(target, board, window)))
    return answers


def has_enough(answers: Mapping[int, Answers]) -> bool:
    """Tell whether at least half of the panels have something to show."""
    return 2 * sum(any(series for _, series in found) for found in answers.values()) >= len(answers)


def draw(board: Board, answers: Mapping[int, Answers], prometheus: Prometheus, window: Window) -> Figure:
    """Draw one dashboard from its answers. Raises QueryFailed."""
    mpl.rcParams.update({"font.size": 8, "font.family": "DejaVu Sans", "text.color": _TEXT})
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(_WIDTH_IN, (rows + 2) * _ROW_IN), facecolor=_BACKGROUND)
    frame = _Frame(figure, rows + 2)
    figure.text(0.008, 1 - 1.1 / (rows + 2), board["title"], fontsize=13, weight="bold")
    for panel in board["panels"]:
        if panel["type"] == "row":
            frame.heading(panel)
            continue
        axes = frame.panel(panel)
        found = answers[panel["id"]]
        if not any(series for _, series in found):
            _say(axes, panel["fieldConfig"]["defaults"].get("noValue", "No data"))
        elif panel["type"] == "stat":
            _stat(axes, panel, found)
        elif panel["type"] == "table":
            _table(axes, panel, found)
        elif panel["type"] == "heatmap":
            _heat(axes, panel, found, window)
        else:
            exemplars = [
                one
                for target, _ in found
                if target.has_exemplars
                for one in prometheus.exemplars(target, board, window)
            ]
            _lines(axes, panel, found, exemplars, window)
    return figure


class _Frame:
    """Places panels as Grafana's grid does."""

    def __init__(self, figure: Figure, rows: int) -> None:
        self._figure = figure
        self._rows = rows

    def _box(self, panel: Panel) -> tuple[float, float, float, float]:
        place = panel["gridPos"]
        x, width = place["x"] / _COLUMNS, place["w"] / _COLUMNS
        height = place["h"] / self._rows
        return x, 1 - (place["y"] + 2) / self._rows - height, width, height

    def heading(self, panel: Panel) -> None:
        x, y, _, height = self._box(panel)
        self._figure.text(x + 0.008, y + height * 0.3, f"▾ {panel['title']}", fontsize=10, weight="bold")

    def panel(self, panel: Panel) -> Axes:
        """Draw an empty panel with its title, and give what is to be drawn into."""
        x, y, width, height = self._box(panel)
        gap_x, gap_y = 0.0025, 0.12 / self._rows
        box = Rectangle(
            (x + gap_x, y + gap_y),
            width - 2 * gap_x,
            height - 2 * gap_y,
            facecolor=_PANEL,
            edgecolor=_GRID,
            transform=self._figure.transFigure,
            zorder=-1,  # below what is drawn into it
        )
        self._figure.patches.append(box)
        title_y = y + height - 0.75 / self._rows
        self._figure.text(x + 0.007, title_y, panel["title"], fontsize=8.5)
        if panel["type"] in {"timeseries", "heatmap"}:
            legend = 2.6 / self._rows if panel["type"] == "timeseries" else 0.6 / self._rows
            axes = self._figure.add_axes(
                (x + 0.04, y + legend, width - 0.05, height - legend - 1.1 / self._rows)
            )
        else:
            axes = self._figure.add_axes(
                (x + gap_x * 2, y + gap_y * 2, width - gap_x * 4, height - 1.2 / self._rows)
            )
        axes.set_facecolor(_PANEL)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if panel["type"] not in {"timeseries", "heatmap"}:
            axes.set_axis_off()
        return axes


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=_FAINT, transform=axes.transAxes, fontsize=10)


def _last(series: Series) -> float:
    return next((value for _, value in reversed(series.points) if not math.isnan(value)), math.nan)


def _stat(axes: Axes, panel: Panel, answers: Answers) -> None:
    values = [(_legend(target, one), target, one) for target, series in answers for one in series]
    options = panel["options"]
    width = 1 / len(values)
    for index, (name, target, series) in enumerate(values):
        value = _last(series)
        text, colour = _shown(panel, value, target.ref_id)
        middle = (index + 0.5) * width
        if options["colorMode"] == "background":
            axes.add_patch(
                Rectangle((index * width, 0), width, 1, facecolor=colour, transform=axes.transAxes)
            )
        if options["graphMode"] == "area" and len(series.points) > 1:
            _sparkline(axes, series)
        has_names = options["textMode"] == "value_and_name"
        size = 19 if width == 1 else max(9, 17 - len(values))
        axes.text(
            middle, 0.42 if has_names else 0.5, text, ha="center", va="center", fontsize=size, weight="bold",
            color="white", transform=axes.transAxes,
        )  # fmt: skip
        if has_names:
            axes.text(middle, 0.78, name, ha="center", va="center", fontsize=8, transform=axes.transAxes)


def _sparkline(axes: Axes, series: Series) -> None:
    values = [value for _, value in series.points if math.isfinite(value)]
    top = max([*values, 1e-9])
    at = [index / max(1, len(values) - 1) for index in range(len(values))]
    axes.fill_between(
        at, [0.4 * value / top for value in values], color="white", alpha=0.18, transform=axes.transAxes
    )


def _lines(axes: Axes, panel: Panel, answers: Answers, exemplars: Sequence[Series], window: Window) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    dashed = _dashed_pattern(panel)
    drawn = [(_legend(target, one), one) for target, series in answers for one in series]
    floor: dict[float, float] = {}
    for index, (name, series) in enumerate(drawn):
        is_limit = dashed is not None and dashed.fullmatch(name) is not None
        colour = _COLOURS["red"] if is_limit else _PALETTE[index % len(_PALETTE)]
        pieces = _pieces(series, window)
        for piece in pieces:
            at = [moment for moment, _ in piece]
            if stacked and not is_limit:
                below = [floor.get(moment, 0.0) for moment in at]
                values = [value + base for (_, value), base in zip(piece, below, strict=True)]
                floor |= dict(zip(at, values, strict=True))
                axes.fill_between(at, below, values, color=colour, alpha=0.25, linewidth=0)
            else:
                values = [value for _, value in piece]
                if not is_limit and "min" in defaults:
                    axes.fill_between(at, 0, values, color=colour, alpha=0.06, linewidth=0)
            marker = "o" if len(piece) == 1 else ""
            axes.plot(
                at, values, color=colour, linewidth=1.2, linestyle="--" if is_limit else "-",
                label=f"{name}   {_number(_last(series), defaults['unit'])}" if piece is pieces[-1] else None,
                marker=marker, markersize=3,
            )  # fmt: skip
    if exemplars:
        points = sorted(point for one in exemplars for point in one.points)
        shown_points = points[:: 1 + len(points) // _EXEMPLARS]  # Grafana thins them out as well
        axes.scatter(
            [at for at, _ in shown_points],
            [value for _, value in shown_points],
            marker="D",
            s=6,
            alpha=0.7,
            color="#5794f2",
            zorder=1,
            label=f"exemplars   {len(points)}",
        )
    _scales(axes, panel, window)
    columns = 1 if len(drawn) <= 2 else 2 if len(drawn) <= 6 else 3
    handles, labels = axes.get_legend_handles_labels()
    shown = labels[:8] + ([f"and {len(labels) - 8} more"] if len(labels) > 8 else [])
    axes.legend(
        (handles + handles[:1])[: len(shown)], shown, loc="upper left", bbox_to_anchor=(-0.08, -0.1), frameon=False,
        fontsize=6.5, labelcolor=_TEXT, ncols=columns, handlelength=1, borderaxespad=0, columnspacing=1,
    )  # fmt: skip


def _heat(axes: Axes, panel: Panel, answers: Answers, window: Window) -> None:
    """Draw counts between each bound and the one below it."""
    series = sorted(
        (one for _, found in answers for one in found if not math.isinf(float(one.labels["le"]))),
        key=lambda one: float(one.labels["le"]),
    )
    times = sorted({at for one in series for at, _ in one.points})
    below = dict.fromkeys(times, 0.0)
    counts: list[list[float]] = []
    for one in series:
        values = dict(one.points)
        counts.append([max(0.0, values.get(at, below[at]) - below[at]) for at in times])
        below = {at: values.get(at, below[at]) for at in times}
    bounds = [float(one.labels["le"]) for one in series]
    top = max((max(row) for row in counts), default=0) or 1
    shades = [[(value / top) ** 0.5 if value > 0 else math.nan for value in row] for row in counts]
    edges = [*times, times[-1] + window.step_s]
    axes.pcolormesh(edges, range(len(bounds) + 1), shades, cmap="YlOrBr_r", vmin=0, vmax=1)
    axes.set_yticks(
        range(1, len(bounds) + 1),
        [_number(bound, panel["fieldConfig"]["defaults"]["unit"]) for bound in bounds],
    )
    _time_axis(axes, window)


def _table(axes: Axes, panel: Panel, answers: Answers) -> None:
    organise = panel["transformations"][-1]["options"]
    names = sorted(organise["indexByName"], key=lambda name: organise["indexByName"][name])
    merged: dict[tuple[str, ...], dict[str, str]] = {}
    for target, series in answers:
        value_name = "Value" if len(answers) == 1 else f"Value #{target.ref_id}"
        for one in series:
            labels = {name: one.labels.get(name, "") for name in names if not name.startswith("Value")}
            row = merged.setdefault(
                tuple(sorted(f"{name}={value}" for name, value in one.labels.items())), labels
            )
            row[value_name] = _number(_last(one), "short")
    width = 1 / len(names)
    for column, name in enumerate(names):
        at = 0.01 + column * width
        heading = organise["renameByName"][name]
        axes.text(at, 0.92, heading, fontsize=8, weight="bold", color="#6e9fff", transform=axes.transAxes)
        for line, row in enumerate(list(merged.values())[:8]):
            axes.text(at, 0.8 - line * 0.1, row.get(name, ""), fontsize=8, transform=axes.transAxes)


def _pieces(series: Series, window: Window) -> list[list[tuple[float, float]]]:
    """Break a line where points are missing, as Grafana does."""
    pieces: list[list[tuple[float, float]]] = []
    before = -math.inf
    for at, value in series.points:
        if math.isfinite(value):
            if at - before > 1.5 * window.step_s:
                pieces.append([])
            pieces[-1].append((at, value))
            before = at
    return pieces


def _scales(axes: Axes, panel: Panel, window: Window) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    axes.margins(y=0.1)
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    if "max" in defaults:
        axes.set_ylim(top=defaults["max"])
    elif axes.get_ylim()[1] <= 0:
        axes.set_ylim(top=1)
    if defaults["custom"].get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    elif defaults["unit"] in {"bytes", "Bps"}:
        axes.yaxis.set_major_locator(ticker.MultipleLocator(2 ** round(math.log2(axes.get_ylim()[1] / 4))))
    else:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: _number(value, defaults["unit"]))
    axes.grid(visible=True, color=_GRID, linewidth=0.6)
    _time_axis(axes, window)


def _time_axis(axes: Axes, window: Window) -> None:
    axes.set_xlim(window.start, window.end)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda at, _: time.strftime("%H:%M", time.gmtime(at)))
    axes.tick_params(colors=_FAINT, labelsize=6.5, length=0)


def _dashed_pattern(panel: Panel) -> "re.Pattern[str] | None":
    for one in panel["fieldConfig"]["overrides"]:
        if one["matcher"]["id"] == "byRegexp":
            return re.compile(one["matcher"]["options"])
    return None


def _legend(target: Target, series: Series) -> str:
    if target.legend == "__auto":
        return ", ".join(series.labels.values())
    text = target.legend
    for name, value in series.labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _shown(panel: Panel, value: float, ref_id: str) -> tuple[str, str]:
    """Give a stat's text and its colour, by its mappings and thresholds."""
    defaults = panel["fieldConfig"]["defaults"]
    for mapping in defaults.get("mappings", ()):
        if result := mapping["options"].get(f"{value:g}"):
            return result["text"], _COLOURS[result["color"]]
    thresholds = defaults["thresholds"]
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"] == {"id": "byFrameRefID", "options": ref_id}:
            thresholds = override["properties"][0]["value"]
    colour = "green"
    for step in thresholds["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return _number(value, defaults["unit"], defaults.get("decimals")), _COLOURS[colour]


def _number(value: float, unit: str, decimals: int | None = None) -> str:
    """Write a number as Grafana does, about."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "s":
        return _seconds(value, decimals)
    if unit in {"bytes", "Bps"}:
        power = min(len(_BYTES) - 1, int(math.log(max(abs(value), 1), 1024)))
        return f"{value / 1024**power:.3g} {_BYTES[power]}{'/s' if unit == 'Bps' else ''}"
    if unit == "percentunit":
        return f"{value * 100:.{decimals if decimals is not None else 1}f}%"
    if unit == "bool_yes_no":
        return "Yes" if value else "No"
    suffix = {"eps": " evt/s", "cps": " c/s"}.get(unit, "")
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}{suffix}"
    return f"{value:.{decimals}f}{suffix}" if decimals is not None else f"{value:.3g}{suffix}"


def _seconds(value: float, decimals: int | None) -> str:
    for limit, unit in ((86400, "days"), (3600, "hours"), (60, "mins")):
        if abs(value) >= limit:
            return f"{value / limit:.{1 if decimals is None else decimals}f} {unit}"
    if value == 0 or abs(value) >= 1:
        return f"{value:.{2 if decimals is None else decimals}f} s"
    return f"{value * 1000:.3g} ms"


if __name__ == "__main__":
    sys.exit(main())
