"""Curves of runs as a picture: one line a run, the best one in front."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts.errors import MissingExtra
from nexa_infra.storage.atomic import replace_file

_MAX_LABELLED = 12
_BEST = "#d1495b"
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
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plot", package="matplotlib", needed_for="drawing curves") from error
    figure = Figure(figsize=(9, 5), dpi=130, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # The best one first in the legend and in front of the others; these shade from dark to light in their order.
    drawn = sorted((curve for curve in curves if curve.points), key=lambda curve: not curve.is_best)
    shades = matplotlib.colormaps["viridis"]
    for number, curve in enumerate(drawn):
        axes.plot(
            [step for step, _ in curve.points],
            [value for _, value in curve.points],
            label=_legend(curve) if curve.is_best or number < _MAX_LABELLED else None,
            color=_BEST if curve.is_best else shades(0.1 + 0.8 * number / len(drawn)),
            linewidth=2.6 if curve.is_best else 1.3,
            alpha=1.0 if curve.is_best else 0.85,
            zorder=3 if curve.is_best else 2,
        )
    values = [value for curve in drawn for _, value in curve.points if value > 0]
    if values and max(values) / min(values) > _LOG_SPAN:
        axes.set_yscale("log")
    axes.set(title=_plain(title), xlabel="step", ylabel=_plain(metric))
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if drawn:
        heading = f"{_MAX_LABELLED} of {len(drawn)} runs" if len(drawn) > _MAX_LABELLED else None
        # Beside the axes: curves fall from any corner to any other.
        figure.legend(fontsize=8, frameon=False, loc="outside right upper", title=heading, title_fontsize=8)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png")
    replace_file(path, buffer.getvalue())
    return path


def render_curves(curves: Sequence[Curve], *, width: int, height: int, title: str) -> str:
    """Return the curves drawn with characters, for a terminal.

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
    for curve in curves:
        if curve.points:
            plotext.plot([step for step, _ in curve.points], [value for _, value in curve.points], label=curve.label)
    return str(plotext.build())


def _legend(curve: Curve) -> str:
    return _plain(f"best: {curve.label}" if curve.is_best else curve.label)


def _plain(text: str) -> str:
    # Between two dollar signs matplotlib reads formulas, and refuses what is none.
    return text.replace("$", r"\$")
