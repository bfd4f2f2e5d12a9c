"""Pages with a table and a few figures: programmes, searches, diagnoses."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing

from kddense.files import write_whole

from .curves import GREY, PALETTE, STYLE
from .figure import Figure, svg_source
from .page import machine, versions


def write_page(file: Path, template: str, name: str, *, shared: bool = False, **contents: Any) -> Path:
    """Write a page.

    Args:
        file: Where to.
        template: A template that extends ``simple.html``.
        name: The page's title.
        shared: Whether other processes may write the same page now.
        **contents: What the template says besides the machine, the versions and the time.
    """
    environment = Environment(
        loader=PackageLoader('kddense.report'), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    now = datetime.now().astimezone().strftime('%d %B %Y, %H:%M %Z')
    page = environment.get_template(template).render(
        name=name, machine=machine(), versions=versions(), now=now, **contents
    )
    write_whole(file, page.encode(), shared)
    return file


def scatter(
    points: Sequence[tuple[str, float, float]],
    x_label: str,
    y_label: str,
    fronts: Sequence[Sequence[tuple[float, float]]] = (),
) -> Figure:
    """Draw named points.

    Args:
        points: Name, x and y of each; those of one name share a colour, and only the first is labelled.
        x_label: What x is.
        y_label: What y is.
        fronts: Points to be joined by steps: what nothing beats at the same or a lower x.
    """
    colours = {
        name: PALETTE[place % len(PALETTE)] for place, name in enumerate(dict.fromkeys(one[0] for one in points))
    }
    with rc_context(STYLE):
        drawing = Drawing(figsize=(4.6, 2.9))
        axes = drawing.add_axes((0.15, 0.17, 0.83, 0.75))
        for front in fronts:
            axes.step(*zip(*front, strict=True), where='post', color=GREY, linewidth=1)
        labelled = set()
        for name, x, y in points:
            axes.plot([x], [y], 'o', color=colours[name])
            if name not in labelled:
                axes.annotate(name, (x, y), xytext=(5, 4), textcoords='offset points', fontsize=8, color=GREY)
            labelled.add(name)
        axes.margins(0.2)
        axes.set_xlabel(x_label, color=GREY)
        axes.set_ylabel(y_label, color=GREY)
        buffer = io.StringIO()
        FigureCanvasSVG(drawing).print_svg(buffer, metadata={'Date': None})
    return Figure(f'{y_label} against {x_label}', svg_source(buffer.getvalue()))
