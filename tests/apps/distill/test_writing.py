"""The configs that are written: what of the student's survives, and where changes go."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config

from kddense import Distiller
from kddense.apps.distill.writing import read_recipe, written

from ...helpers.new_style import new_style

HOOK = [dict(type='EMAHook', momentum=0.1)]
DECAY = dict(num_layers=2, layer_decay_rate=0.5)


@pytest.fixture
def configs(distillation, files):
    """Write the configs of a student with such changes; returns the plain and the distilling one."""

    def write(task, changes=None, **arguments):
        made = distillation(task, files(task, **(changes or {})), test_teacher=False, **arguments)
        made.prepare()
        return [Config.fromfile(made.folder.path / name) for name in ('plain.py', 'distilled.py')]

    return write


@pytest.mark.parametrize(
    'value', [{}, [], (1,), 'a', None, dict(a=1, b=[dict(type='X' * 60), dict(type='Y' * 60)]), {'a-b': (2, 3)}]
)
def test_what_is_written_is_read_as_it_was(value):
    assert eval(written(value), {'dict': dict}) == value


def test_the_students_hooks_imports_and_optimiser_survive(configs, segmentor):
    own = dict(
        custom_hooks=HOOK,
        custom_imports=dict(imports='json', allow_failed_imports=True),
        optim_wrapper__constructor='LayerDecayOptimizerConstructor',
        optim_wrapper__paramwise_cfg=DECAY,
    )
    _, distilled = configs(segmentor, own, recipe='skd')

    assert distilled.custom_hooks == HOOK
    assert distilled.custom_imports == dict(imports=['json', 'kddense'], allow_failed_imports=True)
    wrapper = distilled.optim_wrapper
    assert wrapper.constructor == 'kddense.JointOptimWrapperConstructor'
    assert wrapper.student_constructor == 'LayerDecayOptimizerConstructor'
    assert wrapper.paramwise_cfg == DECAY
    assert wrapper.optimizer == segmentor.plain().optim_wrapper.optimizer
    assert wrapper.objectives.holistic == read_recipe('skd').joint_optim_wrapper.objectives.holistic
    assert distilled.default_hooks.random_state.type == 'kddense.RandomStateHook'
    assert distilled.param_scheduler == segmentor.plain().param_scheduler


def test_a_recipe_of_two_stages_brings_what_lets_the_rest_wait(configs, segmentor):
    _, distilled = configs(segmentor, dict(custom_hooks=HOOK), recipe='fsp')

    assert distilled.custom_hooks == HOOK
    assert distilled.default_hooks.rest == read_recipe('fsp').rest
    assert distilled.model.objectives.fsp.alone


def test_a_recipe_for_few_bits_brings_its_hook_and_the_weight_of_the_task(configs, segmentor, detector):
    for task, recipe, weight in ((segmentor, 'apprentice', 0.5), (detector, 'quantized_distillation', 0.3)):
        _, distilled = configs(task, {}, recipe=recipe)
        assert distilled.default_hooks.quantise == read_recipe(recipe).quantise
        assert distilled.model.task_weights == {'.*': weight}


def test_changes_go_to_the_student_of_both_or_to_the_distiller(configs, detector):
    options = {
        'model.backbone.norm_eval': True,
        'param_scheduler.0.end': 4,
        'train_cfg.max_epochs': 1,
        'model.teacher.precision': 'bf16',
        'model.objectives.hint.weight': 0.25,
    }
    plain, distilled = configs(detector, options=options, seed=5)

    for config in (plain, distilled):
        assert config.train_cfg.max_epochs == 1
        assert config.param_scheduler == [{**detector.plain().param_scheduler[0], 'end': 4}]
        assert config.randomness.seed == 5
    assert plain.model.backbone.norm_eval
    assert distilled.model.student == plain.model
    assert distilled.model.teacher.precision == 'bf16'
    assert distilled.model.objectives.hint == dict(type='kddense.HintObjective', weight=0.25)


def test_rtmdet_has_three_levels_to_compare_and_keeps_its_hooks(distillation, one_stage, tmp_path):
    """Each level weighs as much as one of four."""
    student = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
    torch.save(one_stage.build(get_config(student).model).state_dict(), tmp_path / 'teacher.pth')
    made = distillation(
        one_stage, student, config=student, checkpoint=str(tmp_path / 'teacher.pth'), test_teacher=False
    )
    assert made.prepare().recipe == 'pkd_one_stage'

    distilled = Config.fromfile(made.folder.path / 'distilled.py')
    assert distilled.model.objectives.pkd.levels == [0, 1, 2]
    assert distilled.model.objectives.pkd.weight == pytest.approx(30)
    assert [hook.type for hook in distilled.custom_hooks] == ['EMAHook', 'PipelineSwitchHook']


def test_a_recipe_of_ones_own_is_a_path(configs, segmentor, tmp_path):
    recipe = tmp_path / 'mine.py'
    recipe.write_text("objectives = dict(hint=dict(type='kddense.FeatureObjective', tap='backbone', levels=[3]))\n")
    _, distilled = configs(segmentor, recipe=str(recipe))
    assert list(distilled.model.objectives) == ['hint']


def test_a_student_of_mmengines_new_style(distillation, detector, toy_data, tmp_path):
    detector.build(detector.plain().model)
    (tmp_path / 'student.py').write_text(new_style(detector.plain().to_dict(), 'mmdet'))
    options = {'train_cfg.max_epochs': 1, 'model.backbone.norm_eval': True, 'model.objectives.hint.weight': 0.25}
    arguments = dict(test_teacher=False, options=options, seed=5, unlabelled=[str(toy_data / 'images')])
    made = distillation(detector, tmp_path / 'student.py', **arguments)
    made.prepare()
    plain, distilled = (Config.fromfile(made.folder.path / name) for name in ('plain.py', 'distilled.py'))

    for config in (plain, distilled):
        assert config.train_cfg.max_epochs == 1
        assert config.train_cfg.val_interval == detector.plain().train_cfg.val_interval
        assert config.randomness == dict(seed=5)
    assert distilled.model.type is Distiller
    assert distilled.model.student == plain.model
    assert plain.model.backbone.norm_eval
    assert plain.model.backbone.depth == 18
    assert distilled.model.objectives.hint.weight == 0.25
    assert {'logger', 'random_state', 'unlabelled'} <= distilled.default_hooks.keys()


def test_a_folder_that_a_new_style_cannot_import_from_is_refused(distillation, detector, tmp_path):
    folder = tmp_path / 'my-configs'
    folder.mkdir()
    (folder / 'student.py').write_text(new_style(detector.plain().to_dict(), 'mmdet'))
    with pytest.raises(ValueError, match='my-configs/student has names that Python cannot import'):
        distillation(detector, folder / 'student.py', test_teacher=False).prepare()
