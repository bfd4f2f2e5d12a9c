"""Curves of trainings, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

GREY = '#5f6368'
LIGHT = '#7fb4d6'  # beside the first of the palette
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00')
STYLE: Any = {
    'axes.edgecolor': '#c4c7cc',
    'axes.grid': True,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'font.size': 10,
    'grid.color': '#eceef1',
    'svg.hashsalt': 'kddense',  # the same curve, the same file
    'xtick.color': GREY,
    'ytick.color': GREY,
}


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        label: What the legend says.
        x: Iterations or epochs.
        y: Values.
        colour: As matplotlib takes it.
        dashed: A reference rather than a measurement in time.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dashed: bool = False


def plot(curves: Sequence[Curve], title: str, x_label: str, levels: Mapping[str, float] | None = None) -> str:
    """Draw curves into one figure.

    Args:
        curves: Those without a point are left out.
        title: Above the axes.
        x_label: Below them.
        levels: Values to mark with a dashed line across, by label.

    Returns:
        SVG, with text as paths: it looks the same everywhere.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.9))
        axes = figure.add_axes((0.13, 0.17, 0.85, 0.72))
        for curve in curves:
            if curve.x:
                marker = 'o' if len(curve.x) < 12 else None
                line = '--' if curve.dashed else '-'
                axes.plot(curve.x, curve.y, line, color=curve.colour, label=curve.label, marker=marker, markersize=3.5)
        for label, value in (levels or {}).items():
            axes.axhline(value, color=GREY, linestyle='--', linewidth=1, label=label)
        axes.set_title(title, loc='left', fontsize=11)
        axes.set_xlabel(x_label, color=GREY)
        axes.set_axisbelow(True)
        axes.ticklabel_format(axis='y', useOffset=False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(frameon=False, fontsize=9)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={'Date': None})
    return buffer.getvalue()
