"""One set of options for a whole table, whose plain student has no teacher."""

import pytest

from kddense.apps.measure import main
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


@pytest.mark.parametrize('option', ['randomness.deterministic', '=3', ''])
def test_what_is_no_option_is_refused_as_other_commands_do(option):
    with pytest.raises(ConfigError) as error:
        parsed(['train_cfg.max_iters=7', option])
    assert str(error.value) == f"argument --cfg-options: must be key=value, got '{option}'"


def test_a_table_with_what_is_no_option_ends_in_one_sentence(segmentor, tmp_path, monkeypatch):
    segmentor.build(segmentor.plain().model)
    segmentor.plain().dump(tmp_path / 'plain.py')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(['--plain', 'plain.py', '--work-dir', 'runs', '--seeds', '0', '--cfg-options', 'randomness.deterministic'])
    assert ended.value.code == "error: argument --cfg-options: must be key=value, got 'randomness.deterministic'"
    assert not list(tmp_path.rglob('*.pth'))


def test_an_option_that_cannot_be_set_is_named(segmentor):
    with pytest.raises(ConfigError, match='^--cfg-options: .*max_iters'):
        with_options(segmentor.plain(), {'train_cfg.max_iters.more': 1})
