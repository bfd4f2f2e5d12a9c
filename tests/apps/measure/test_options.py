"""One set of options for a whole table, whose plain student has no teacher."""

import pytest

from kddense.apps.measure.options import parsed, with_options
from kddense.errors import ConfigError

OPTIONS = ['train_cfg.max_iters=7', 'model.teacher.precision=fp32']


def test_a_teachers_options_come_to_nothing_without_one(segmentor):
    plain, distilled = segmentor.plain(), segmentor.distilled()
    before = plain.model.to_dict()

    assert with_options(distilled, parsed(OPTIONS)).model.teacher.precision == 'fp32'
    assert with_options(plain, parsed(OPTIONS)).model.to_dict() == before
    assert plain.train_cfg.max_iters == distilled.train_cfg.max_iters == 7


def test_a_plain_model_with_a_part_of_that_name_keeps_it(segmentor):
    plain = segmentor.plain()
    plain.model.teacherly = dict(width=1)
    assert with_options(plain, {'model.teacherly.width': 2}).model.teacherly.width == 2


def test_an_option_that_cannot_be_set_is_named(segmentor):
    with pytest.raises(ConfigError, match='^--cfg-options: .*max_iters'):
        with_options(segmentor.plain(), {'train_cfg.max_iters.more': 1})
