"""BAN's objective for segmentors and detectors: what it compares, and permutations that a resumed run draws again."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MessageHub

from ..helpers import detectors, plugins, tiny

SEGMENTORS = [tiny.segmentor('pspnet_r50-d8')] * 2
FCOS = [detectors.one_stage('fcos')] * 2
DATA = tiny.segmentation_data()
RCNN = [tiny.faster_rcnn()] * 2


@pytest.mark.parametrize('mode', ['soft', 'cwtm', 'dkpp'])
@pytest.mark.parametrize(
    'models, scope, data',
    [
        (SEGMENTORS, 'mmseg', tiny.segmentation_data()),
        (FCOS, 'mmdet', tiny.detection_data()),
        (RCNN, 'mmdet', tiny.detection_data()),
    ],
    ids=['pixels', 'places', 'rois'],
)
def test_every_family_takes_a_step(mode, models, scope, data):
    student, teacher = models
    model = tiny.distiller(student, teacher, dict(ban=dict(type='kddense.BANObjective', mode=mode)), scope)
    assert plugins.gradients(model, data)
    plugins.train(model, data)


def test_permutations_are_of_the_iteration():
    calm = {f'{head}.dropout_ratio': 0.0 for head in ('decode_head', 'auxiliary_head')}
    student = tiny.edit(SEGMENTORS[0], calm)
    model = tiny.distiller(student, student, dict(ban=dict(type='kddense.BANObjective', mode='dkpp')), 'mmseg')
    found = []
    for iteration in (3, 4, 3):
        MessageHub.get_current_instance().update_info_dict(dict(iter=iteration, max_iters=10, seed=1))
        state = torch.get_rng_state()
        found.append(float(tiny.step(model, DATA)['distill.ban.loss']))
        assert torch.equal(state, torch.get_rng_state())
    assert found[0] == found[2] != found[1]
