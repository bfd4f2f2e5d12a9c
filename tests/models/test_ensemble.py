"""Models that predict as one: the mean of probabilities, of segmentors and one-stage detectors."""

from __future__ import annotations

import pytest
import torch

from kddense import EnsembleModel
from kddense.models.ensemble import log_mean

from ..helpers import detectors, tiny

SEGMENTOR = tiny.segmentor('pspnet_r50-d8')
FCOS = detectors.one_stage('fcos')


def ensemble(model, scope, tmp_path, count=2, same=False):
    members = []
    for seed in range(count):
        built = tiny.build(model, scope=scope)
        tiny.shake(built, seed=0 if same else seed)
        torch.save(dict(state_dict=built.state_dict()), tmp_path / f'{seed}.pth')
        members.append(dict(config=dict(model=model, default_scope=scope), checkpoint=str(tmp_path / f'{seed}.pth')))
    return tiny.build(dict(type='kddense.EnsembleModel', members=members), scope=scope).eval()


def test_pixels(tmp_path):
    model = ensemble(SEGMENTOR, 'mmseg', tmp_path, 3)
    with torch.no_grad():
        (found, *_) = model.test_step(tiny.segmentation_data())
        own = [member.test_step(tiny.segmentation_data())[0].seg_logits.data.softmax(0) for member in model.members]
    torch.testing.assert_close(found.seg_logits.data.softmax(0), sum(own) / 3, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.pred_sem_seg.data[0], (sum(own) / 3).argmax(0))


def test_one_network_twice_is_that_network(tmp_path):
    model = ensemble(FCOS, 'mmdet', tmp_path, same=True)
    with torch.no_grad():
        both = [one.test_step(tiny.detection_data()) for one in (model, model.members[0])]
    for found, own in zip(*both, strict=True):
        assert len(found.pred_instances) == len(own.pred_instances)
        torch.testing.assert_close(found.pred_instances.bboxes, own.pred_instances.bboxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.pred_instances.scores, own.pred_instances.scores, rtol=1e-4, atol=1e-5)


def test_a_mean_of_yes_and_no():
    one, other = torch.tensor([[-2.0], [0.5]]), torch.tensor([[3.0], [1.0]])
    expected = (one.sigmoid() + other.sigmoid()) / 2
    torch.testing.assert_close(log_mean([one, other]).sigmoid(), expected)
    torch.testing.assert_close(log_mean([one, other], sigmoid=True).sigmoid(), expected)


def test_what_has_no_mean_is_told(tmp_path):
    with pytest.raises(ValueError, match='members are each a FasterRCNN, which chooses its own boxes'):
        ensemble(tiny.faster_rcnn(), 'mmdet', tmp_path)
    with pytest.raises(ValueError, match='members must be at least two trained models, got 1'):
        ensemble(SEGMENTOR, 'mmseg', tmp_path, 1)
    other = tiny.edit(SEGMENTOR, {'data_preprocessor.mean': [0.0] * 3})
    members = [dict(config=dict(model=one, default_scope='mmseg'), checkpoint='x.pth') for one in (SEGMENTOR, other)]
    with pytest.raises(ValueError, match='members must have one data preprocessor'):
        EnsembleModel(members)
    with pytest.raises(ValueError, match="only predicts, mode='predict', got 'loss'"):
        ensemble(SEGMENTOR, 'mmseg', tmp_path)(torch.zeros(1, 3, 64, 64), [], mode='loss')
