"""Bad inputs, by kind: each ends in one sentence that names the config key and what was given.

The tables of types and of names are made of the registered classes themselves, so that a new class is in them.
"""

from __future__ import annotations

import collections.abc
import re
import typing
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

import kddense  # noqa: F401
from kddense import registry
from kddense.apps.command_line import in_one_sentence
from kddense.errors import ConfigError, within
from kddense.evaluation import DepthMetric, ImageIoUMetric  # noqa: F401 (they are registered by that)
from kddense.options import NO_DEFAULT, UNIONS, options_of

from .helpers import tiny

REGISTRIES = {
    'MODELS': registry.MODELS,
    'TEACHERS': registry.TEACHERS,
    'HOOKS': registry.HOOKS,
    'METRICS': registry.METRICS,
    'TRANSFORMS': registry.TRANSFORMS,
    'DATASETS': registry.DATASETS,
    'DATA_SAMPLERS': registry.DATA_SAMPLERS,
}
NAN, INF = float('nan'), float('inf')
# By what an option takes: what it must not be given.
WRONG = {
    float: ['1', True, NAN, INF, [1.0]],
    int: ['1', True, 1.5, [1]],
    bool: [1, 'yes', 0.0],
    str: [3, True, ['a']],
    dict: [3, 'text', [1]],
    list: [3, 'text', []],
}
OTHERS = {'name', 'init_cfg', 'args'}  # which kddense passes itself, or mmengine reads


def classes():
    for where, one in REGISTRIES.items():
        for name, kind in one.module_dict.items():
            if isinstance(kind, type) and kind.__module__.startswith('kddense.'):
                yield where, name, kind


def kinds_of(hint):
    """Return which of the kinds of ``WRONG`` an annotation takes; ``None`` if anything goes."""
    if typing.get_origin(hint) in UNIONS:
        found = [kinds_of(one) for one in typing.get_args(hint)]
        return None if None in found else set().union(*found)
    origin = typing.get_origin(hint) or hint
    if origin is type(None):
        return {None}
    if origin is typing.Literal:
        return {str}
    for kind, origins in ((dict, (collections.abc.Mapping, dict)), (list, (collections.abc.Sequence, list, tuple))):
        if origin in origins:
            return {kind}
    return {origin} if origin in WRONG else None


def wrong_values(hint):
    kinds = kinds_of(hint)
    if not kinds or kinds == {None}:
        return
    for value in {repr(one): one for kind in kinds - {None} for one in WRONG[kind]}.values():
        if not any(_may_be(value, kind) for kind in kinds):
            yield value


def _may_be(value, kind):
    finite = not (isinstance(value, float) and value - value != 0)
    return {
        None: value is None,
        float: isinstance(value, (int, float)) and not isinstance(value, bool) and finite,
        int: isinstance(value, int) and not isinstance(value, bool),
        bool: isinstance(value, bool),
        str: isinstance(value, str),
        dict: isinstance(value, dict),
        list: isinstance(value, list) and bool(value),
    }[kind]


def _example(hint):
    """Return a value that an option without a default takes."""
    kinds = kinds_of(hint) or {str}
    if kinds == {list}:
        (entry, *_) = typing.get_args(hint)
        return [_example(entry)] * 2
    return next(value for value in ({}, 'x', 1, ['x', 'y']) if any(_may_be(value, kind) for kind in kinds - {None}))


def wrong_types(kind):
    """Return all options of a class with values that they must not have."""
    own = options_of(kind).items()
    return [
        (name, value)
        for name, one in own
        if name not in OTHERS
        for value in wrong_values(one.annotation)
        if not (value == INF and one.default == INF) and not (value == [] and one.default == ())
    ]


def complaint_of(kind, options):
    with pytest.raises(ConfigError) as caught:
        kind(**options)
    message = str(caught.value)
    assert '\n' not in message
    return message


def needed(kind, *but):
    """Return values for the options of a class that have no default."""
    own = options_of(kind)
    return {
        name: _example(one.annotation)
        for name, one in own.items()
        if one.default is NO_DEFAULT and name not in but and name not in OTHERS
    }


def test_the_tables_are_large():
    kinds = [kind for _, _, kind in classes()]
    assert len(kinds) > 40
    assert sum(len(wrong_types(kind)) for kind in kinds) > 300


@pytest.mark.parametrize('name, kind', [(name, kind) for _, name, kind in classes()])
def test_values_of_another_type(name, kind):
    for option, value in wrong_types(kind):
        message = complaint_of(kind, {**needed(kind, option), option: value})
        assert re.search(rf'(^|\.){option} must ', message), message
        assert repr(value) in message
        assert ' got ' in message


@pytest.mark.parametrize('name, kind', [(name, kind) for _, name, kind in classes() if name != 'Distiller'])
def test_an_option_that_there_is_not(name, kind):
    known = [one for one in options_of(kind) if one not in OTHERS]
    misspelt = f'{known[0]}_' if known else 'weight_'
    with pytest.raises((ConfigError, TypeError)) as caught:
        kind(**needed(kind), **{misspelt: 1})
    message = str(caught.value)
    assert misspelt in message
    if isinstance(caught.value, ConfigError):
        assert f"has no key '{misspelt}'" in message
        assert not known or known[0] in message


@pytest.mark.parametrize(
    'name, kind, option',
    [
        (name, kind, option)
        for where, name, kind in classes()
        for option, one in options_of(kind).items()
        if one.default is NO_DEFAULT and where != 'TEACHERS' and option not in OTHERS
    ],
)
def test_an_option_that_is_missing(name, kind, option):
    assert f"needs the key '{option}'" in complaint_of(kind, needed(kind, option))


# --- in a whole config ----------------------------------------------------------------------------------------------------

HINT, FEATURE = 'kddense.HintObjective', 'kddense.FeatureObjective'


def build(objectives=None, **parts):
    config = dict(
        type='kddense.Distiller',
        student=tiny.faster_rcnn(),
        teacher=tiny.teacher_of(tiny.faster_rcnn(width=16)),
        objectives=objectives or {},
    )
    return tiny.build({**config, **parts})


def said_of(**parts):
    with pytest.raises((ValueError, OSError, ImportError)) as caught:
        build(**parts)
    assert '\n' not in str(caught.value)
    return caught.value, str(caught.value)


@pytest.mark.parametrize(
    'config, expected',
    [
        (dict(type=HINT, weight='0.5'), "o.weight must be a number, a dict or a percentage such as '10%', got '0.5'"),
        (dict(type=HINT, weight=dict(value='1')), "o.weight.value must be a number or a percentage such as '10%', got '1'"),
        (dict(type=HINT, weight=dict(value=1, start=5, stop=5)), 'o.weight.start must come before stop'),
        (dict(type=HINT, weight=dict(value=1, stop=0)), 'o.weight.start must come before stop'),
        (dict(type=HINT, weight=dict(value=1, end_value=2)), 'o.weight.end_value is where a decay ends'),
        (dict(type=HINT, levels=[]), 'o.levels must be a list of whole numbers or None, and not empty, got []'),
        (dict(type=HINT, levels=[0, 0]), 'o.levels must name each level once, got [0, 0]'),
        (dict(type=HINT, levels=[0, -5]), 'o.levels must name each level once, got [0, -5]'),
        (dict(type=HINT, levels=[1, 1], teacher_levels=[0, 0]), 'o.levels must name each level once, got [1, 1]'),
        (dict(type=HINT, levels=[9]), 'o.levels must name some of 0..4'),
        (dict(type=HINT, connector=dict(kernel=3)), "o.connector has no key 'kernel'"),
        (dict(type=HINT, connector=dict(kernel_size=2)), 'o.connector.kernel_size must be odd, got 2'),
        (dict(type=HINT, connector=dict(type='kddense.ConvConector')), "o.connector.type: there is no 'kddense.ConvCon"),
        (dict(type=HINT, wieght=1), "o has no key 'wieght'"),
        (dict(type='HintObjective'), "o.type: there is no 'HintObjective'; the nearest names are 'kddense.HintObjective'"),
        (dict(type='kddense.HintObjectiv'), "o.type: there is no 'kddense.HintObjectiv'; the nearest names are"),
        (dict(type='HintLoss'), 'o'),
        (dict(type=FEATURE, tap=3), 'o.tap must be'),
        (dict(type=FEATURE, tap='neck', loss=dict(type='kddense.HintLoss', norm='l3')), "o.loss.norm must be one of"),
        (dict(type=FEATURE, tap='neck', loss=dict(type='kddense.HintLoss', nrm=1)), "o.loss has no key 'nrm'"),
        (dict(type=FEATURE, tap='neck', loss=dict(type='kddense.Hint')), "o.loss.type: there is no 'kddense.Hint'"),
        (dict(type=FEATURE, tap='neck', loss=dict(type='kddense.HintonLoss', temperature=-1)), 'o.loss.temperature must'),
        (dict(type='kddense.ChenRoIObjective', mu=2), 'o.mu must lie in [0, 1], got 2'),
        (dict(type='kddense.ChenRoIObjective', temperature=-1.0), 'o.temperature must be above 0, got -1'),
        (3, 'o must be a dict, got 3'),
    ],
)  # fmt: skip
def test_an_objective(config, expected):
    _, message = said_of(objectives=dict(o=config))
    assert message.startswith(f'objectives.{expected}')


@pytest.mark.parametrize(
    'change, expected',
    [
        ({'backbone.depth': 19}, 'backbone (mmdet.ResNet) cannot be built: invalid depth 19 for resnet'),
        ({'backbone.dept': 18}, "backbone (mmdet.ResNet) has no key 'dept'"),
        ({'neck.type': 'FPNN'}, "neck.type: there is no 'FPNN'; the nearest names are 'FPN'"),
        ({'neck.in_channels': 3}, 'neck (FPN) cannot be built: this must hold: isinstance(in_channels, list)'),
        ({'roi_head.bbox_head.type': 'Nothing'}, "roi_head.bbox_head.type: there is no 'Nothing'"),
        ({'type': 'FasterRCN'}, "type: there is no 'FasterRCN'; the nearest names are 'FasterRCNN'"),
    ],
)
@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_what_another_library_refuses_is_named(side, change, expected):
    model = tiny.edit(tiny.faster_rcnn(), change)
    parts = dict(student=model) if side == 'student' else dict(teacher=tiny.teacher_of(model))
    error, message = said_of(**parts)
    assert message.startswith(f'{"student" if side == "student" else "teacher.config.model"}.{expected}')
    assert error.__cause__ is not None


@pytest.mark.parametrize(
    'class_map, expected',
    [
        ([0, 1, 1], 'teacher.class_map must name each class once, by name or by index from 0, got [0, 1, 1]'),
        ([0, 1, -1], 'teacher.class_map must name each class once, by name or by index from 0, got [0, 1, -1]'),
        ([0, 1, 7], 'teacher.class_map must name classes in 0..2'),
        ([0, 1], 'class'),
        ([0, True, 2], 'teacher.class_map must be'),
        ([0.0, 1, 2], 'teacher.class_map must be'),
        ([], 'teacher.class_map must be'),
        ('abc', 'teacher.class_map must be'),
        (['a', 'b', 'c'], "teacher.class_map: the teacher has no class 'a', 'b', 'c'"),
    ],
)
def test_class_maps(class_map, expected):
    teacher = tiny.teacher_of(tiny.faster_rcnn(), class_map=class_map)
    _, message = said_of(teacher=teacher, objectives=dict(roi=dict(type='kddense.ChenRoIObjective')))
    assert expected in message


def test_another_number_of_classes_offers_a_class_map():
    teacher = tiny.teacher_of(tiny.faster_rcnn({'roi_head.bbox_head.num_classes': 4}))
    _, message = said_of(teacher=teacher, objectives=dict(roi=dict(type='kddense.ChenRoIObjective')))
    assert "choose and order the teacher's classes with teacher.class_map" in message


def test_an_objective_twice():
    _, message = said_of(objectives=dict(a=dict(type=HINT), b=dict(type=HINT)))
    assert message.startswith('objectives.b is objectives.a once more, with the same options')


def test_no_objectives_are_told(monkeypatch):
    from kddense.distiller import build as module

    said = []
    monkeypatch.setattr(module, 'print_log', lambda text, **_: said.append(text))
    build(objectives={})
    assert said == ['objectives is empty: the student trains as if there were no teacher']


@pytest.mark.parametrize(
    'text, expected',
    [
        ('model = dict(', 'cannot be read: '),
        ("_base_ = ['nowhere.py']", 'cannot be read: '),
        ('raise RuntimeError("no")', 'cannot be read: '),
    ],
)
def test_a_teachers_config_that_is_no_config(text, expected, tmp_path):
    file = tmp_path / 'teacher.py'
    file.write_text(text)
    _, message = said_of(teacher=dict(config=str(file), checkpoint=None))
    assert message.startswith(f"teacher.config: '{file}' {expected}")


def test_a_folder_is_no_config(tmp_path):
    _, message = said_of(teacher=dict(config=str(tmp_path), checkpoint=None))
    assert message == f"teacher.config: '{tmp_path}' is a folder, not a config"


def test_a_typing_error_before_the_colons_is_not_to_be_installed():
    _, message = said_of(teacher=dict(config='mmdett::x.py', checkpoint=None))
    assert "names the package 'mmdett', which is not there; the nearest names are 'mmdet'" in message
    assert 'pip install' not in message


def test_causes_stay_chained():
    with pytest.raises(ConfigError) as caught, within('here'):
        raise KeyError('depth')
    assert str(caught.value) == "here: the key 'depth' is missing"
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_weight_that_is_not_finite_is_named(tmp_path):
    weights = tiny.build(tiny.faster_rcnn(width=16)).state_dict()
    weights['neck.fpn_convs.0.conv.bias'][0] = float('nan')
    torch.save(weights, tmp_path / 'bad.pth')
    before = sorted(tmp_path.iterdir())
    _, message = said_of(
        teacher=dict(tiny.teacher_of(tiny.faster_rcnn(width=16)), checkpoint=str(tmp_path / 'bad.pth'))
    )
    assert 'NaN or infinite weights (neck.fpn_convs.0.conv.bias)' in message
    assert sorted(Path(tmp_path).iterdir()) == before


@pytest.mark.parametrize(
    'text, sentence',
    [
        ('', "train_dataloader.dataset.ann_file: 'boxes.json' is no JSON: it is empty"),
        ('{"images": [', "train_dataloader.dataset.ann_file: 'boxes.json' is no JSON: Expecting value: line 1"),
        (
            '{"images": [], "annotations": [], "categories": []}',
            "train_dataloader.dataset.ann_file: no image of 'boxes.json' is left: is it empty, or",
        ),
    ],
)
def test_annotations_without_images_are_told(text, sentence, tmp_path):
    (tmp_path / 'boxes.json').write_text(text)
    data = dict(type='CocoDataset', data_root=f'{tmp_path}/', ann_file='boxes.json', pipeline=[])
    config = Config(dict(train_dataloader=dict(dataset=data)))
    with pytest.raises(SystemExit) as ended, in_one_sentence(config), DefaultScope.overwrite_default_scope('mmdet'):
        DATASETS.build(config.train_dataloader.dataset)
    assert str(ended.value.code).startswith(f'error: {sentence}')
