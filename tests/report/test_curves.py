"""Curves: the same ones are the same file, and what cannot be drawn is left out."""

import xml.etree.ElementTree as ET

from kddense.report.curves import Curve, plot

RISING = Curve('plain', [1, 2, 3], [0.1, 0.2, 0.3], '#0072b2')
FALLING = Curve('distilled', [1, 2, 3], [0.3, 0.2, 0.1], '#d55e00')


def test_a_plot_is_a_picture_and_always_the_same():
    svg = plot([RISING, FALLING], 'loss', 'iteration')
    assert ET.fromstring(svg).tag == '{http://www.w3.org/2000/svg}svg'
    assert svg == plot([RISING, FALLING], 'loss', 'iteration')
    assert all(curve.colour in svg for curve in (RISING, FALLING))


def test_a_curve_without_a_point_is_left_out():
    assert FALLING.colour not in plot([RISING, Curve('distilled', [], [], FALLING.colour)], 'loss', 'iteration')


def test_a_level_is_a_dashed_line_across():
    assert 'stroke-dasharray' not in plot([RISING], 'mAP', 'epoch')
    assert 'stroke-dasharray' in plot([RISING], 'mAP', 'epoch', {'teacher': 0.5})
