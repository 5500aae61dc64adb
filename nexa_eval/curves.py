"""Curves of runs as a picture: one line a run, the best one in front."""

from __future__ import annotations

import io
import string
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nexa_contracts.errors import MissingExtra
from nexa_infra.storage.atomic import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELLED = 6
"""Runs whose curve has a colour and a name; of more, nobody can tell the colours apart."""
_BEST = "#d1495b"
_OTHERS = "#b4b4b4"
_LABEL_WIDTH = 34
_LABEL_LINES = 3
_LETTERS = string.ascii_lowercase + string.ascii_uppercase
_LOG_SPAN = 8.0
"""Highest over lowest value from which the axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's values over its steps."""

    label: str
    points: Sequence[tuple[int, float]]
    is_best: bool = False


def draw_curves(curves: Sequence[Curve], path: Path, *, title: str, metric: str) -> Path:
    """Draw the curves into a PNG and return its path.

    Raises:
        MissingExtra: matplotlib is not installed.
        StorageError: the disk is full or read-only.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise MissingExtra("plot", package="matplotlib", needed_for="drawing curves") from error
    buffer = io.BytesIO()
    FigureCanvasAgg(plot_curves(curves, title=title, metric=metric)).print_figure(buffer, format="png")
    replace_file(path, buffer.getvalue())
    return path


def plot_curves(curves: Sequence[Curve], *, title: str, metric: str) -> Figure:
    """Return the figure: the best run and those that follow it in colour and by name, the others in grey.

    The curves are in the order of their rank; one that is marked as the best goes before it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    drawn = sorted((curve for curve in curves if curve.points), key=lambda curve: not curve.is_best)
    shades = matplotlib.colormaps["viridis"]
    others = len(drawn) - MAX_LABELLED
    for number, curve in enumerate(drawn):
        is_named = number < MAX_LABELLED
        color = shades(0.1 + 0.8 * number / MAX_LABELLED) if is_named else _OTHERS
        axes.plot(
            [step for step, _ in curve.points],
            [value for _, value in curve.points],
            label=_legend(curve) if is_named else f"{others} others" if number == MAX_LABELLED else None,
            color=_BEST if curve.is_best else color,
            linewidth=2.6 if curve.is_best else 1.3 if is_named else 0.8,
            zorder=4 if curve.is_best else 3 if is_named else 2,
        )
    values = [value for curve in drawn for _, value in curve.points if value > 0]
    if values and max(values) / min(values) > _LOG_SPAN:
        axes.set_yscale("log")
    axes.set(title=_plain(title), xlabel="step", ylabel=_plain(metric))
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if drawn:
        # Beside the axes: curves fall from any corner to any other.
        figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def render_curves(curves: Sequence[Curve], *, width: int, height: int, title: str, is_coloured: bool = True) -> str:
    """Return the curves drawn with characters, for a terminal; each with a letter of its own where there is no colour.

    Raises:
        MissingExtra: plotext is not installed.
    """
    try:
        import plotext
    except ImportError as error:
        raise MissingExtra("plot", package="plotext", needed_for="drawing in the terminal") from error
    plotext.clear_figure()
    plotext.plotsize(width, height)
    plotext.theme("pro")
    plotext.title(title)
    for number, curve in enumerate(curve for curve in curves if curve.points):
        steps, values = [step for step, _ in curve.points], [value for _, value in curve.points]
        marker = None if is_coloured else _LETTERS[number % len(_LETTERS)]
        plotext.plot(steps, values, label=curve.label, marker=marker)
    return str(plotext.build())


def _legend(curve: Curve) -> str:
    label = f"best: {curve.label}" if curve.is_best else curve.label
    return _plain("\n".join(textwrap.wrap(label, _LABEL_WIDTH, max_lines=_LABEL_LINES, placeholder=" …")))


def _plain(text: str) -> str:
    # Between two dollar signs matplotlib reads formulas, and refuses what is none.
    return text.replace("$", r"\$")
