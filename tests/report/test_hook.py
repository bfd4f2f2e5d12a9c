"""Pictures during training: they are drawn, they show what they should, and training does not notice."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from kddense.random_state import get_random_state
from kddense.report.hook import DistillVisualizationHook
from kddense.taps import tensors_of


def hooked(task, **options):
    """A short training with the hook."""
    short = dict(train_cfg__max_epochs=1) if task.package == 'mmdet' else dict(train_cfg__max_iters=4)
    config = task.distilled(**short)
    config.custom_hooks = [dict(type='kddense.DistillVisualizationHook', **dict(dict(interval=3, images=1), **options))]
    return config


def pictures(folder):
    return {path.name: cv2.imread(str(path)) for path in folder.glob('*/vis_data/vis_image/*.png')}


@pytest.mark.parametrize('name', ['detector', 'one_stage', 'structured', 'depth'])
def test_it_draws_before_training_every_so_often_and_at_the_end(name, request, tmp_path):
    task = request.getfixturevalue(name)
    runner = task.train(hooked(task), tmp_path)

    kinds = ['predictions', 'energy', *(['affinities'] if name != 'detector' else [])]
    assert set(pictures(tmp_path)) == {f'distill_0_{kind}_{step}.png' for kind in kinds for step in (0, 3, runner.iter)}
    assert runner.iter == 4


def test_training_does_not_notice(structured, tmp_path, logged_losses):
    outcomes = []
    for name, hooks in (('with', hooked(structured).custom_hooks), ('without', [])):
        config = hooked(structured)
        config.custom_hooks = hooks
        runner = structured.train(config, tmp_path / name)
        numbers = [value.tolist() for value in tensors_of(get_random_state())]
        weights = {key: value.tolist() for key, value in runner.model.state_dict().items()}
        outcomes.append((logged_losses(runner.message_hub), weights, numbers))

    assert outcomes[0] == outcomes[1]


def test_the_student_changes_in_the_pictures_and_the_teacher_does_not(structured, tmp_path):
    structured.train(hooked(structured), tmp_path)
    before, after = (pictures(tmp_path)[f'distill_0_energy_{step}.png'] for step in (0, 4))

    middle = before.shape[1] // 2
    np.testing.assert_array_equal(before[:, :middle], after[:, :middle])
    assert (before[:, middle:] != after[:, middle:]).any()


def test_several_images_are_drawn_each_under_its_number(structured, tmp_path):
    structured.train(hooked(structured, images=2, split='test'), tmp_path)
    assert {name[:9] for name in pictures(tmp_path)} == {'distill_0', 'distill_1'}


@pytest.mark.parametrize('option', [dict(precision='bf16'), dict(input_scale=2.0)])
def test_a_teacher_of_another_precision_or_scale_is_drawn_as_it_would_be_alone(option, segmentor, tmp_path):
    config = hooked(segmentor)
    segmentor.train(config, tmp_path / 'plain')
    config = hooked(segmentor)
    config.model.teacher.update(option)
    segmentor.train(config, tmp_path / 'other')

    expected, got = (pictures(tmp_path / name)['distill_0_predictions_0.png'] for name in ('plain', 'other'))
    third = expected.shape[1] // 3
    np.testing.assert_array_equal(expected[:, :third], got[:, :third])  # ground truth
    np.testing.assert_array_equal(expected[:, 2 * third :], got[:, 2 * third :])  # student
    if 'precision' in option:
        differing = (expected[:, third : 2 * third] != got[:, third : 2 * third]).any(-1).mean()
        assert differing < 0.05


def test_a_teacher_that_is_no_model_of_openmmlab_is_left_out(segmentor, tmp_path):
    config = hooked(segmentor)
    config.model.teacher = dict(
        type='kddense.ModuleTeacher', module=dict(type='torchvision.models.resnet18', weights=None)
    )
    hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1], teacher_tap='layer4', teacher_levels=[0])
    config.model.objectives = dict(hint=hint)
    runner = segmentor.train(config, tmp_path)

    shown = pictures(tmp_path)
    assert set(shown) == {
        f'distill_0_{kind}_{step}.png' for kind in ('predictions', 'energy') for step in (0, 3, runner.iter)
    }
    widths = {name.split('_')[2]: picture.shape[1] for name, picture in shown.items()}
    assert widths['predictions'] == 2 * widths['energy']  # ground truth and student; the student alone


def test_a_larger_image_gives_boxes_of_the_original(detector):
    from kddense.report.evaluation import build_loader, build_model
    from kddense.report.examples import examples_of
    from kddense.report.hook import _at_scale

    config = detector.plain()
    (example,) = examples_of(build_loader(config, 'val').dataset, 1)
    model = build_model(config)
    with torch.no_grad():
        (sample,) = model.test_step(_at_scale(example, 2.0).batch())

    assert _at_scale(example, 2.0).item['inputs'].shape[-2:] == (128, 128)
    assert sample.pred_instances.bboxes.max() <= 64
    assert sample.pred_instances.bboxes.max() > 32


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(interval=0), 'DistillVisualizationHook.interval must be at least 1, got 0'),
        (dict(images=0), 'DistillVisualizationHook.images must be at least 1, got 0'),
        (dict(split='train'), "DistillVisualizationHook.split must be one of val, test, got 'train'"),
    ],
)
def test_arguments_that_do_not_fit_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistillVisualizationHook(**arguments)


def test_it_needs_a_distiller_and_the_teacher_that_it_names(structured, tmp_path):
    plain = structured.plain()
    plain.custom_hooks = hooked(structured).custom_hooks
    with pytest.raises(ValueError, match=r'needs a kddense\.Distiller, got a EncoderDecoder'):
        structured.train(plain, tmp_path / 'plain')
    with pytest.raises(ValueError, match=r"must be one of teacher, got 'other'"):
        structured.train(hooked(structured, teacher='other'), tmp_path / 'other')
