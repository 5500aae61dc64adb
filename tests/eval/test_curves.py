"""Curves are drawn whole or not at all, for any number of runs."""

from __future__ import annotations

import math
from pathlib import Path

import click
import pytest
from matplotlib.colors import to_rgb

from nexa_eval.curves import MAX_LABELLED, Curve, draw_curves, plot_curves, render_curves

PNG = b"\x89PNG\r\n\x1a\n"


def make_curves(count: int) -> list[Curve]:
    return [
        Curve(
            f"learning_rate={10 ** (-4 + number / 5):.3g}",
            [(step, 2 + 6 * math.exp(-step / (20 + 15 * number))) for step in range(1, 200, 5)],
            is_best=number == 0,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 6, 40])
def test_a_picture_is_drawn_for_any_number_of_runs(tmp_path: Path, count: int) -> None:
    path = draw_curves(make_curves(count), tmp_path / "new" / "curves.png", title="loss of a sweep", metric="loss")
    assert path.read_bytes().startswith(PNG)
    assert [entry.name for entry in path.parent.iterdir()] == ["curves.png"]


def test_runs_without_a_value_are_left_out(tmp_path: Path) -> None:
    curves = [Curve("nothing yet", []), *make_curves(1)]
    assert draw_curves(curves, tmp_path / "curves.png", title="loss", metric="loss").exists()


def test_a_terminal_gets_the_title_and_every_label() -> None:
    text = render_curves(make_curves(3), width=80, height=20, title="loss of a sweep")
    assert "loss of a sweep" in text
    for curve in make_curves(3):
        assert curve.label in text


def test_without_colours_each_curve_has_a_letter_of_its_own() -> None:
    text = render_curves(make_curves(3), width=80, height=20, title="loss", is_coloured=False)
    for letter, curve in zip("abc", make_curves(3), strict=True):
        assert f"{letter * 2} {curve.label}" in click.unstyle(text)


def test_dollar_signs_in_a_label_are_no_formula(tmp_path: Path) -> None:
    curves = [Curve(r"prompt=a$\nosuch{b$", [(1, 2.0), (2, 1.0)], is_best=True)]
    assert draw_curves(curves, tmp_path / "curves.png", title="$\\x$", metric="loss").exists()


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (MAX_LABELLED, MAX_LABELLED), (200, MAX_LABELLED + 1)])
def test_the_best_runs_are_named_and_the_others_counted(count: int, shown: int) -> None:
    figure = plot_curves(make_curves(count)[::-1], title="loss", metric="loss")
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == shown
    assert texts[0] == f"best: {make_curves(1)[0].label}"
    if count > MAX_LABELLED:
        assert texts[-1] == f"{count - MAX_LABELLED} others"
        greys = [line for line in figure.axes[0].get_lines() if len(set(to_rgb(line.get_color()))) == 1]
        assert len(greys) == count - MAX_LABELLED


@pytest.mark.parametrize("count", [1, 6, 200])
def test_the_legend_leaves_the_picture_to_the_curves_however_long_its_labels(count: int) -> None:
    long = " ".join(f"a_rather_long_axis_{number}=0.000123" for number in range(8))
    curves = [Curve(f"{long} n={curve.label}", curve.points, is_best=curve.is_best) for curve in make_curves(count)]
    figure = plot_curves(curves, title="loss", metric="loss")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().width < 0.35 * figure.bbox.width
    assert legend.get_window_extent().height < figure.bbox.height
    assert figure.axes[0].get_window_extent().width > 0.5 * figure.bbox.width
