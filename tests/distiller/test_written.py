"""The lines that a user writes undo nothing of the student's config, through the road of the stock scripts.

The students here have hooks, imports, a constructor of their optimiser and a schedule of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from kddense.training.replaced import check_optimisers

from ..helpers import tiny

RECIPES = Path(__file__).parents[2] / 'configs/_base_/recipes'
OWN_MODULE = """
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class SlowBackbone(DefaultOptimWrapperConstructor):
    def add_params(self, params, module, **kwargs):
        for name, parameter in module.named_parameters():
            slow = name.startswith('backbone.')
            params.append(dict(params=[parameter], lr=self.base_lr * (0.5 if slow else 1.0)))
"""
OWN = """
custom_imports = dict(imports=['slow_backbone'], allow_failed_imports=False)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
optim_wrapper.update(constructor='SlowBackbone', paramwise_cfg=dict(bypass_duplicate=True))
param_scheduler = [dict(type='ConstantLR', factor=0.5, by_epoch=False, end=3)]
"""
FORMS = {
    'recipe in _base_': """
_base_ = ['./student.py', '{recipe}']
model = dict(student=_base_.model, teacher={teacher}, **_base_.distiller)
""",
    'written out': """
_base_ = ['./student.py', '{recipe}']
model = dict(
    _delete_=True, type='kddense.Distiller', student={{{{_base_.model}}}}, teacher={teacher},
    objectives={{{{_base_.objectives}}}})
""",
    'by name': """
_base_ = './student.py'
model = dict(
    _delete_=True, type='kddense.Distiller', student=_base_.model, teacher={teacher}, objectives=['{name}'])
""",
}
HOOK = "default_hooks = dict(random_state=dict(type='kddense.RandomStateHook'))\n"
JOINT = {
    'recipe in _base_': "optim_wrapper = dict(student_constructor=_base_.optim_wrapper.get('constructor'), "
    '**_base_.joint_optim_wrapper)\n',
    'written out': "optim_wrapper = dict(student_constructor='SlowBackbone', "
    "constructor='kddense.JointOptimWrapperConstructor', "
    "objectives=dict(holistic=dict(optimizer=dict(type='Adam', lr=4e-4))))\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the configs lie, and the module that the student imports."""
    (tmp_path / 'slow_backbone.py').write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder: Path, task: Any, form: str, recipe: str, more: str = '', own: str = OWN) -> Path:
    """Write a student with settings of its own, and a config that distils it; return the latter's path."""
    length = 'max_iters' if 'max_iters' in task.plain().train_cfg else 'max_epochs'
    task.plain(**{f'train_cfg__{length}': 1, 'train_cfg__val_interval': 2}).dump(folder / 'student.py')
    with open(folder / 'student.py', 'a') as file:
        file.write(own)
    text = FORMS[form].format(recipe=RECIPES / f'{recipe}.py', name=recipe, teacher=task.teacher)
    (folder / 'distil.py').write_text(text + more)
    return folder / 'distil.py'


def hooks_of(runner: Any) -> set[str]:
    return {type(hook).__name__ for hook in runner.hooks}


@pytest.mark.parametrize('form', FORMS)
def test_hooks_imports_constructor_and_schedule_survive(form, detector, folder):
    config = Config.fromfile(write(folder, detector, form, 'chen2017', HOOK))
    runner = detector.train(config, folder / 'run')

    assert list(runner.model.objectives) == ['rpn', 'roi', 'hint']
    assert {'EMAHook', 'RandomStateHook'} <= hooks_of(runner)
    assert runner.cfg.custom_imports.imports == ['slow_backbone']
    rates = {group['initial_lr'] for group in runner.optim_wrapper.param_groups}
    assert rates == {0.02, 0.01}  # the backbone's is half
    assert [type(one).__name__ for one in runner.param_schedulers] == ['ConstantLR']


@pytest.mark.parametrize('form', JOINT)
@pytest.mark.parametrize('schedule', ['list', 'dict'])
def test_a_discriminator_leaves_the_constructor_and_the_schedule_alone(form, schedule, structured, folder):
    own = OWN
    if schedule == 'dict':
        own = OWN + 'param_scheduler = dict(student=param_scheduler, holistic=[dict(type="PolyLR", power=0.9)])\n'
    config = Config.fromfile(write(folder, structured, form, 'skd', HOOK + JOINT[form], own))
    runner = structured.runner(config, folder / 'run')
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    schedulers = runner_schedules(runner, wrapper)

    base = config.optim_wrapper.optimizer.lr
    assert {group['initial_lr'] for group in wrapper['student'].param_groups} == {base, base / 2}
    assert schedulers == dict(student=['ConstantLR'], holistic=['PolyLR' if schedule == 'dict' else 'ConstantLR'])


SHORT = 'optim_wrapper = _base_.joint_optim_wrapper\n'


def test_a_constructor_that_the_short_line_replaces_is_named(structured, folder):
    config = Config.fromfile(write(folder, structured, 'recipe in _base_', 'skd', SHORT))

    with pytest.raises(
        ValueError, match=r"replaces the student's own, SlowBackbone: write .*constructor='SlowBackbone'"
    ):
        structured.train(config, folder / 'run')


def test_the_short_line_is_enough_for_the_default_constructor(structured, folder):
    own = OWN.replace("constructor='SlowBackbone', ", '')
    config = Config.fromfile(write(folder, structured, 'recipe in _base_', 'skd', SHORT, own))

    check_optimisers(config)


def runner_schedules(runner: Any, wrapper: Any) -> dict[str, list[str]]:
    runner.optim_wrapper = wrapper
    built = runner.build_param_scheduler(runner.param_schedulers)
    return {name: [type(one).__name__.replace('ParamScheduler', 'LR') for one in many] for name, many in built.items()}


def test_hooks_that_a_list_of_ours_replaces_are_named(detector, folder):
    path = write(
        folder, detector, 'recipe in _base_', 'chen2017', "custom_hooks = [dict(type='kddense.RandomStateHook')]\n"
    )
    (folder / 'child.py').write_text("_base_ = './distil.py'\n")

    for file in (path, folder / 'child.py'):
        with pytest.raises(
            ValueError, match=r'^custom_hooks: .* EMAHook with it: write default_hooks = dict\(added=dict\(type='
        ):
            detector.train(Config.fromfile(file), folder / 'run')


@pytest.mark.parametrize(
    'hooks',
    ["[dict(type='kddense.RandomStateHook'), dict(type='EMAHook')]", "[dict(type='NumClassCheckHook')]", '[]'],
    ids=['listed with ours', 'without ours', 'none'],
)
def test_hooks_that_are_replaced_on_purpose_are_gone(hooks, detector, folder):
    path = write(folder, detector, 'recipe in _base_', 'chen2017', HOOK + f'custom_hooks = {hooks}\n')
    runner = detector.runner(Config.fromfile(path), folder / 'run')

    runner.call_hook('before_run')
    assert ('EMAHook' in hooks_of(runner)) == ('EMAHook' in hooks)


def test_a_base_that_is_still_there_is_named(detector, folder):
    path = write(folder, detector, 'written out', 'chen2017')
    path.write_text(path.read_text().replace('_delete_=True, ', ''))

    with pytest.raises(
        ValueError, match=r'model: data_preprocessor|model: backbone, .*write model = dict\(_delete_=True'
    ):
        detector.build(Config.fromfile(path).model)


def test_an_argument_that_is_none_is_named():
    with pytest.raises(ValueError, match="has no 'objective'; did you mean 'objectives'"):
        tiny.build(dict(type='kddense.Distiller', student=tiny.faster_rcnn(), objective={}))


# --- recipes by name ------------------------------------------------------------------------------------------------------


def objectives(written: Any) -> dict[str, Any]:
    """Build a distiller of detectors and return its objectives."""
    teacher = tiny.teacher_of(tiny.faster_rcnn(width=16), 'mmdet')
    config = dict(type='kddense.Distiller', student=tiny.faster_rcnn(), teacher=teacher, objectives=written)
    return dict(tiny.build(config, scope='mmdet').objectives.items())


def test_two_recipes_stand_beside_each_other():
    assert list(objectives(['chen2017', 'pkd'])) == ['rpn', 'roi', 'hint', 'pkd']


def test_one_recipe_may_be_named_alone():
    assert list(objectives('pkd')) == ['pkd']


def test_what_stands_behind_a_recipe_is_laid_over_it():
    extra = dict(type='kddense.FeatureObjective', tap='backbone', levels=[2])
    found = objectives(['chen2017', 'pkd', dict(hint=dict(weight=0.5), rpn=dict(weight=0), extra=extra)])

    assert list(found) == ['roi', 'hint', 'pkd', 'extra']
    assert found['hint'].schedule(0, None) == 0.5
    assert found['pkd'].schedule(0, None) == 24


@pytest.mark.parametrize(
    'written, message',
    [
        (
            ['chen2017', 'fitnets'],
            "recipes 'chen2017' and 'fitnets' both have an objective 'hint': write one of the two",
        ),
        ('chen2018', "there is no recipe 'chen2018'; did you mean 'chen2017'"),
        (['pkd', 3], r'objectives\[1\] must be the name of a recipe or a dict'),
        (3, 'objectives must be a dict, a text, a list of values or None, got 3'),
    ],
)
def test_recipes_that_cannot_be_laid_together_are_named(written, message):
    with pytest.raises(ValueError, match=message):
        objectives(written)


def test_a_discriminator_of_a_recipe_by_name_says_what_it_needs(structured, folder):
    config = Config.fromfile(write(folder, structured, 'by name', 'skd'))

    with pytest.raises(ValueError, match=r'objectives.holistic trains a discriminator.* add optim_wrapper = '):
        structured.train(config, folder / 'run')
