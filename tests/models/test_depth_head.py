"""A depth estimator of any backbone and any decoder of mmseg."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from kddense.models import DepthHead

from ..helpers import tiny
from ..helpers.depth_estimators import BINS, NORM, depth_data, depth_estimator

DECODER = dict(type='mmseg.FCNHead', in_channels=8, in_index=0, channels=8, num_convs=1, norm_cfg=NORM)


def head(**options):
    return tiny.build(dict(type='kddense.DepthHead', decoder=DECODER, **options), scope='mmseg')


@pytest.mark.parametrize('target', ['log', 'linear', 'bins'])
def test_depth_stays_in_its_range_and_covers_it(target):
    depth = head(target=target, min_depth=0.5, max_depth=8.0, num_bins=20)
    logits = torch.zeros(1, depth.num_bins, 2, 1)
    logits[:, 0, 0] = 50 if target == 'bins' else -50
    logits[:, -1, 1] = 50

    nearest, farthest = depth.to_depth(logits).flatten().tolist()

    assert (nearest, farthest) == (pytest.approx(0.5), pytest.approx(8.0))


@pytest.mark.parametrize(('target', 'middle'), [('log', 2.0), ('linear', 4.25), ('bins', 2.0)])
def test_the_middle_of_the_scale(target, middle):
    depth = head(target=target, min_depth=0.5, max_depth=8.0, num_bins=20)

    assert depth.to_depth(torch.zeros(1, depth.num_bins, 1, 1)).item() == pytest.approx(middle, rel=1e-5)


def test_bins_by_hand():
    depth = head(target='bins', min_depth=1.0, max_depth=math.e**3, num_bins=4)  # centres at 1, e, e², e³
    logits = torch.tensor([0.0, math.log(3.0), -100.0, -100.0]).view(1, 4, 1, 1)

    assert depth.to_depth(logits).item() == pytest.approx(math.e**0.75, rel=1e-5)
    found = depth.bins_of(torch.tensor([[[[1.0, math.e * 1.1, math.e**3, 0.0, 100.0]]]]))
    assert found.flatten().tolist() == [0, 1, 3, -1, 3]


def test_a_bin_leads_back_to_its_depth():
    depth = head(target='bins', num_bins=150)
    truth = torch.linspace(0.1, 10, 50).view(1, 1, 1, 50)

    certain = torch.nn.functional.one_hot(depth.bins_of(truth)[:, 0], 150).permute(0, 3, 1, 2) * 200.0

    half_a_bin = math.log(100) / 149 / 2
    torch.testing.assert_close(depth.to_depth(certain).log(), truth.log(), rtol=0, atol=half_a_bin + 1e-4)


@pytest.mark.parametrize('backbone', ['resnet', 'mobilenet', 'swin'])
@pytest.mark.parametrize('decoder', ['SegformerHead', 'FPNHead'])
def test_any_backbone_trains_and_predicts(backbone, decoder):
    model = tiny.build(depth_estimator(backbone=backbone, decoder=decoder), scope='mmseg')

    losses = tiny.step(model, depth_data())
    tiny.total(losses).backward()

    assert losses.keys() == {'decode.loss_silog', 'decode.loss_log_l1', 'decode.abs_rel'}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    model.eval()
    data = depth_data(size=(48, 60))
    with torch.no_grad():
        predicted = model.test_step(dict(data, inputs=data['inputs']))
    assert [sample.pred_depth_map.data.shape for sample in predicted] == [(1, 48, 60)] * 2


def test_a_transformer_backbone():
    changes = {
        'backbone': dict(
            _delete_=True, type='MixVisionTransformer', embed_dims=8, num_layers=[1] * 4, num_heads=[1, 2, 4, 8]
        ),
        'decode_head.decoder.in_channels': [8, 16, 32, 64],
    }
    model = tiny.build(depth_estimator(changes), scope='mmseg')

    assert tiny.total(tiny.step(model, depth_data())).isfinite()


def test_bins_train_with_virtual_normals():
    model = tiny.build(depth_estimator(BINS), scope='mmseg')

    losses = tiny.step(model, depth_data())

    assert losses.keys() == {'decode.loss_ordered_cross_entropy', 'decode.loss_virtual_normal', 'decode.abs_rel'}
    assert all(value > 0 for value in losses.values())


def test_the_losses_are_those_of_numpy():
    """Scale-invariant and L1 losses of the resized logits, over the known pixels of each image and of all."""
    model = tiny.build(depth_estimator({'data_preprocessor.size_divisor': 32}), scope='mmseg')
    data = depth_data()
    losses = tiny.step(model, data)
    prepared = model.data_preprocessor(copy.deepcopy(data), True)
    logits = model.decode_head.decoder(model.extract_feat(prepared['inputs']))
    logits = torch.nn.functional.interpolate(logits, (64, 64), mode='bilinear', align_corners=False)
    depth = np.exp(math.log(0.1) + math.log(100) / (1 + np.exp(-logits.detach().double().numpy())))[:, 0]
    truth = torch.stack([sample.gt_depth_map.data for sample in data['data_samples']]).double().numpy()[:, 0]

    differences = [np.log(t[t > 0]) - np.log(d[t > 0]) for d, t in zip(depth, truth, strict=True)]

    silog = np.mean([np.sqrt((one**2).mean() - 0.5 * one.mean() ** 2) for one in differences])
    assert losses['decode.loss_silog'].item() == pytest.approx(silog, rel=1e-3)
    l1 = np.abs(np.concatenate(differences)).mean()
    assert losses['decode.loss_log_l1'].item() == pytest.approx(l1, rel=1e-3)
    relative = np.concatenate([np.abs(d - t)[t > 0] / t[t > 0] for d, t in zip(depth, truth, strict=True)])
    assert losses['decode.abs_rel'].item() == pytest.approx(relative.mean(), rel=1e-3)


@pytest.mark.parametrize('changes', [{}, BINS])
def test_images_of_unknown_depth_are_left_out(changes):
    model = tiny.build(depth_estimator(changes), scope='mmseg')
    data = depth_data(unknown=1.0)

    losses = tiny.step(model, data)
    tiny.total(losses).backward()

    assert not any(value.any() for value in losses.values())
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)
    assert any(p.grad is not None for p in model.parameters())


def test_one_image_of_unknown_depth_does_not_disturb_the_other():
    """The scale-invariant loss of mmseg alone gives NaN gradients there."""
    model = tiny.build(depth_estimator(), scope='mmseg')
    data = depth_data()
    data['data_samples'][0].gt_depth_map = PixelData(data=torch.zeros(1, 64, 64))
    features = model.extract_feat(model.data_preprocessor(copy.deepcopy(data), True)['inputs'])

    both = model.decode_head.loss(features, data['data_samples'])
    alone = model.decode_head.loss_by_feat(model.decode_head.decoder(features)[1:], data['data_samples'][1:])

    torch.testing.assert_close(both, alone)
    tiny.total(both).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_depth_out_of_range_and_padding_are_not_known():
    depth = head(min_depth=1.0, max_depth=5.0)
    sample = depth_data(size=(4, 6), count=1)['data_samples'][0]
    sample.gt_depth_map = PixelData(data=torch.tensor([[[0.0, 0.5, 1.0, 5.0, 5.5, 3.0]] * 4]))
    sample.set_metainfo(dict(img_shape=(3, 5)))

    known = depth.known_depth([sample])

    assert known.shape == (1, 1, 4, 6)
    assert known[0, 0].tolist() == [[0, 0, 1, 5, 0, 0]] * 3 + [[0] * 6]


def test_depth_is_full_precision_under_autocast():
    model = tiny.build(depth_estimator(), scope='mmseg')

    with torch.autocast('cpu', torch.bfloat16):
        losses = tiny.step(model, depth_data())

    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_an_auxiliary_head():
    auxiliary = dict(type='kddense.DepthHead', decoder=dict(DECODER, in_channels=16, in_index=1))
    model = tiny.build(depth_estimator({'auxiliary_head': auxiliary}), scope='mmseg')

    assert 'aux.loss_silog' in tiny.step(model, depth_data())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(target='inverse'), "DepthHead.target must be one of 'log', 'linear', 'bins', got 'inverse'"),
        (
            dict(min_depth=0.0),
            'DepthHead.min_depth and max_depth must be metres with 0 < min < max, got 0.0 and 10.0',
        ),
        (dict(min_depth=20.0), 'got 20.0 and 10.0'),
        (dict(target='bins', num_bins=1), 'DepthHead.num_bins must be at least 2, got 1'),
        (
            dict(loss_decode=dict(type='kddense.OrderedCrossEntropyLoss')),
            "OrderedCrossEntropyLoss needs bins, but target is 'log'",
        ),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        DepthHead(DECODER, **options)


@pytest.mark.parametrize('key', ['num_classes', 'out_channels', 'loss_decode'])
def test_the_decoder_has_no_classes_of_its_own(key):
    with pytest.raises(ValueError, match=f'DepthHead.decoder.{key} is for the depth head to set: remove it'):
        DepthHead(dict(DECODER, **{key: 5}))
