"""Heads of mmdet and mmseg by their stock configs, made small: served or refused at build, as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kddense.views import ViewError, build_view

from ..helpers import stock_models

PAGE = Path(__file__).parents[2] / 'docs/models.md'
ROWS = re.findall(r'^\| [^|]+ \| `(\w+::[^`]+)` \| ([^|]+) \| ([^|]+) \|$', PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize('path, served, refused', ROWS, ids=[path for path, *_ in ROWS])
def test_a_head_is_served_or_refused_as_the_page_says(path, served, refused):
    package = path.partition('::')[0]
    with stock_models.weights_as_they_come():
        model = stock_models.build(stock_models.small_model(path), package)
    view = build_view(model, 'student')

    for kind in re.findall(r'`(\w+)`', served):
        view.check(kind)
    for kind in re.findall(r'`(\w+)`', refused):
        with pytest.raises(ViewError, match='^student'):
            view.check(kind)
