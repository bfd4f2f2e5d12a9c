"""Every recipe of the classic literature: before it begins nothing is changed, and checkpoints are the plain student's."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from mmengine.config import Config

from kddense.random_state import get_random_state

from ..helpers import detectors, mask_models, plugins, tiny, transformers

SEGMENTOR = ('mmseg', lambda **sizes: tiny.segmentor('pspnet_r50-d8', **sizes), tiny.segmentation_data(count=3))
PANOPTIC = ('mmdet', lambda **sizes: mask_models.panoptic_fpn(), mask_models.panoptic_data())
MASK_QUERIES = ('mmdet', lambda width=8, fpn=16: mask_models.mask2former(width), tiny.detection_data(masks=True))
MASK_SEGMENTOR = ('mmseg', lambda **sizes: mask_models.mask_segmentor(), tiny.segmentation_data())
MASKS = ('mmdet', tiny.mask_rcnn, tiny.detection_data(masks=True))
QUERIES = ('mmdet', lambda width=8, fpn=16: transformers.detr('dab', width), tiny.detection_data())
DETECTOR = ('mmdet', tiny.faster_rcnn, tiny.detection_data())
ONE_STAGE = ('mmdet', functools.partial(detectors.one_stage, 'gfl'), tiny.detection_data())
RECIPES = {
    'at': ('at', SEGMENTOR, {}),
    'gradient attention': ('at_gradient', SEGMENTOR, {}),
    'nst': ('nst', SEGMENTOR, {}),
    'darkrank, RoIs': ('darkrank', DETECTOR, {}),
    'darkrank, images': ('darkrank', SEGMENTOR, {}),
    'rkd, RoIs': ('rkd', DETECTOR, {}),
    'rkd, images': ('rkd', SEGMENTOR, {}),
    'fsp': ('fsp', SEGMENTOR, {}),
    'crd, images': ('crd', SEGMENTOR, dict(size=20)),
    'crd, boxes': ('crd', DETECTOR, dict(size=20)),
    'ofd': ('ofd', SEGMENTOR, {}),
    'ab': ('ab', SEGMENTOR, {}),
    'dkd': ('dkd', DETECTOR, {}),
    'dist': ('dist', DETECTOR, {}),
    'apprentice': ('apprentice', DETECTOR, {}),
    'quantized distillation': ('quantized_distillation', SEGMENTOR, {}),
    'reviewkd': ('reviewkd', DETECTOR, {}),
    'fbkd': ('fbkd', DETECTOR, {}),
    'ifvd': ('ifvd', SEGMENTOR, {}),
    'cirkd': ('cirkd', SEGMENTOR, dict(pixel_samples=20, region_samples=10)),
    'logit standardisation': ('logit_std', SEGMENTOR, {}),
    'cankd': ('cankd', DETECTOR, {}),
    'qat': ('qat', DETECTOR, {}),
    'foundation': ('foundation', SEGMENTOR, {}),
    'foundation, levels': ('foundation_levels', DETECTOR, {}),
    'foundation, neck': ('foundation_neck', ONE_STAGE, {}),
    'fgd, two-stage': ('fgd', DETECTOR, {}),
    'fgd, one-stage': ('fgd_one_stage', ONE_STAGE, {}),
    'mgd, two-stage': ('mgd', DETECTOR, {}),
    'mgd, one-stage': ('mgd_one_stage', ONE_STAGE, {}),
    'mgd, segmentor': ('mgd_segmentation', SEGMENTOR, {}),
    'fgfi': ('fgfi', DETECTOR, dict(weight=0.01)),
    'defeat': ('defeat', DETECTOR, {}),
    'defeat, one-stage': ('defeat_one_stage', ONE_STAGE, {}),
    'gid': ('gid', ONE_STAGE, dict(smallest=1.0)),
    'cosine': ('cosine', ONE_STAGE, {}),
    'crosskd': ('crosskd_gfl', ONE_STAGE, {}),
    'masks': ('masks', MASKS, {}),
    'mask_queries': ('mask_queries', MASK_QUERIES, {}),
    'mask_queries, segmentor': ('mask_queries', MASK_SEGMENTOR, {}),
    'stuff': ('stuff', PANOPTIC, {}),
    'kd_detr': ('kd_detr', QUERIES, {}),
    'detrdistill': ('detrdistill', QUERIES, {}),
}
TASK = ('decode.loss_ce', 'decode.acc_seg')
SYMMETRY = dict(symmetry=dict(type='kddense.GradientSymmetryObjective'))


@pytest.fixture(params=[*RECIPES, 'gradient symmetry'])
def method(request):
    """Return the student's config, its scope and data, and a function that builds a distiller of it."""
    recipe, (scope, student, batch), options = RECIPES.get(request.param, (None, SEGMENTOR, {}))
    data = copy.deepcopy(batch)
    for number, sample in enumerate(data['data_samples']):
        sample.set_metainfo(dict(img_path=f'{number}.png'))
    wide = dict(width=12) if scope == 'mmseg' else dict(width=12, fpn=24)

    def build(**changes):
        if recipe is None:
            objectives = copy.deepcopy(SYMMETRY)
        else:
            objectives = Config.fromfile(f'configs/_base_/recipes/{recipe}.py').objectives.to_dict()
        for objective in objectives.values():
            objective.update({**options, **changes})
        if recipe is None:
            return tiny.build(dict(type='kddense.Distiller', student=student(), objectives=objectives), scope=scope)
        return tiny.distiller(student(), student(**wide), objectives, scope)

    return student(), scope, data, build


def test_one_that_has_not_begun_changes_nothing(method):
    """Losses, weights, statistics of norms and random numbers are the plain student's, to the last bit."""
    student, scope, data, build = method
    outcomes = []
    for model in (tiny.build(student, scope=scope), build(weight=dict(value=1.0, start=plugins.RUN_LENGTH - 1))):
        torch.manual_seed(3)
        logs = plugins.train(model, data)
        own = [{name: value for name, value in log.items() if not name.startswith('distill.')} for log in logs]
        outcomes.append((own, model.state_dict(), get_random_state()['torch']))
    (plain, weights, numbers), (waiting, others, drawn) = outcomes
    assert waiting == plain
    assert weights.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert torch.equal(numbers, drawn)


def test_its_checkpoint_is_the_plain_students(method):
    student, scope, data, build = method
    model = build()
    logs = plugins.train(model, data, lr=1e-5)  # weights made for trained models: large steps diverge
    assert any(value for log in logs for name, value in log.items() if name.startswith('distill.'))
    plugins.assert_contracts(model, student, scope, rebuild=build)


@pytest.mark.parametrize('recipe', ['fsp', 'ab'])
def test_the_first_of_two_stages_is_its_own_and_the_second_the_tasks(recipe):
    """Under the same keys in the log all along; the task's accuracy is told all along too."""
    scope, student, data = SEGMENTOR
    objectives = Config.fromfile(f'configs/_base_/recipes/{recipe}.py').objectives.to_dict()
    objectives[recipe]['weight']['stop'] = 0.3
    logs = plugins.train(tiny.distiller(student(), student(width=12), objectives, scope), data, steps=5, lr=1e-5)
    assert len({frozenset(log) for log in logs}) == 1
    own, task, accuracy = ([log[name] for log in logs] for name in (f'distill.{recipe}.loss', *TASK))
    assert all(own[:3])
    assert own[3:] == [0, 0]
    assert task[:3] == [0, 0, 0]
    assert all(task[3:])
    assert all(accuracy)
