"""Norms folded before weights are rounded: what a deployed layer computes, and the scales that a checkpoint gives for it."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule, fuse_conv_bn
from torch import nn

from kddense import (
    BucketedQuantiser,
    LSQQuantiser,
    MinMaxQuantiser,
    TernaryQuantiser,
    UniformQuantiser,
    WRPNQuantiser,
)
from kddense.quantisation import QuantisedStudent, fold_factor, norms_behind, scales_of, symmetric
from kddense.quantisation.folding import along
from kddense.quantisation.steps import steps_by_channel

from ..helpers import detectors, tiny


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stack():
    """Return convolutions with norms, one of which has channels that its norm turns off or around."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 2),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 2, 1),
    )
    with torch.no_grad():
        for norm in (model[1], model[4]):
            norm.running_var.uniform_(0.1, 4)
            norm.running_mean.normal_()
            norm.weight.normal_()
            norm.bias.normal_()
        model[1].weight[2] = 0
    return model.eval()


def quantised(model, weights, **options):
    found = QuantisedStudent(model, weights, MinMaxQuantiser(), ends='quantised', fold_norms=True, **options)
    found.attach()
    return found


def seen(model, weights, shape=(2, 3, 8, 8)):
    found = quantised(model, weights)
    found.begin_step(0)
    model(normal(*shape))
    found.end_step()
    found.train(False)
    return found


@pytest.mark.parametrize('weights', [UniformQuantiser(3), UniformQuantiser(3, 'affine'), LSQQuantiser(3)])
def test_a_layer_computes_what_its_folded_weight_gives_on_the_scales_of_the_checkpoint(weights):
    model = stack()
    images = normal(2, 3, 8, 8, seed=1)
    deployed = fuse_conv_bn(copy.deepcopy(model[:2]))
    student = seen(model, weights)
    scales = scales_of(dict(state_dict=model.state_dict(), quantised=student.state()))
    assert list(scales) == ['0', '3', '5']
    steps = scales['0'].weight
    assert scales['0'].norm == '1'
    scale, zero = (along(one, deployed[0].weight, 0) if one.ndim else one for one in steps[:2])
    whole = (deployed[0].weight / scale + zero).round().clamp(steps.least, steps.most)
    with torch.no_grad():
        deployed[0].weight.copy_((whole - zero) * scale)
    given = scales['0'].input
    rounded = torch.fake_quantize_per_tensor_affine(
        images, given.scale.item(), given.zero_point.item(), given.least, given.most
    )
    own = model[:2](images)
    live = [0, 1, 3]  # a norm whose weight is 0 gives its bias, whatever is rounded
    torch.testing.assert_close(own[:, live], deployed(rounded)[:, live], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own[:, 2], model[1].bias[2].expand_as(own[:, 2]))


def test_scales_follow_the_weights_that_are_given():
    model = stack()
    state = seen(model, UniformQuantiser(8)).state()
    other = {key: value * 2 if key == '5.weight' else value for key, value in model.state_dict().items()}
    kept = dict(state_dict=model.state_dict(), quantised=state)
    own, doubled = scales_of(kept)['5'], scales_of(kept, other)['5']
    torch.testing.assert_close(doubled.weight.scale, 2 * own.weight.scale)
    assert own.norm is own.factor is None
    assert scales_of(kept)['3'].axis == 1
    assert scales_of(kept)['3'].weight.scale.shape == (6,)


def test_scales_of_rounded_weights_are_the_same():
    model = stack()
    student = seen(model, UniformQuantiser(4, 'affine'))
    before = scales_of(dict(state_dict=copy.deepcopy(model.state_dict()), quantised=student.state()))
    student.round_weights()
    after = scales_of(dict(state_dict=model.state_dict(), quantised=student.state()))
    for path in before:
        torch.testing.assert_close(before[path].weight.scale, after[path].weight.scale)
        assert torch.equal(before[path].weight.zero_point, after[path].weight.zero_point)


def test_a_checkpoint_without_scales_is_refused():
    with pytest.raises(ValueError, match='the checkpoint holds no scales: train with a kddense.QuantiseHook that has'):
        scales_of(dict(state_dict={}))
    model = stack()
    kept = seen(model, BucketedQuantiser(4)).state()
    assert scales_of(dict(state_dict=model.state_dict(), quantised=kept))['0'].weight is None


@pytest.mark.parametrize(
    'weights',
    [WRPNQuantiser(4), TernaryQuantiser(), UniformQuantiser(4), UniformQuantiser(4, 'affine'), LSQQuantiser(4)],
)
def test_whole_numbers_and_steps_are_the_weight_that_the_run_computes_with(weights):
    model = stack()
    model[0].weight.data *= 3  # some beyond the ends of WRPN
    student = seen(model, weights)
    for path, scales in scales_of(dict(state_dict=model.state_dict(), quantised=student.state())).items():
        layer = student.layers[path]
        folded, steps = layer.folded(), scales.weight
        scale, zero = (along(one, folded, layer.axis) if one.ndim else one for one in steps[:2])
        whole = scales.whole(folded)
        assert set(whole.unique().tolist()) <= set(range(steps.least, steps.most + 1))
        torch.testing.assert_close((whole - zero) * scale, weights(folded, path, layer.axis))


def test_a_factor_of_nothing_is_one():
    factor = fold_factor(torch.tensor([-4.0, 0.0]), torch.tensor([3.0, 3.0]), 1.0)
    assert factor.tolist() == [-2, 1]


def test_gradients_pass_the_fold_and_one_iteration_has_one_factor():
    model = stack().train()
    student = quantised(model, UniformQuantiser(2))
    student.begin_step(0)
    first = student.layers['0'].factor()
    model(normal(2, 3, 8, 8)).sum().backward()
    assert model[1].running_var.tolist() != stack()[1].running_var.tolist()
    assert student.layers['0'].factor() is first  # recomputed activations meet the same weight
    student.begin_step(1)
    assert not torch.equal(student.layers['0'].factor(), first)
    rounded = student.layers['0'].rounded()
    (gradient,) = torch.autograd.grad(rounded, model[0].weight, torch.ones_like(rounded))
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


PAIRS = {
    'resnet': (
        'mmdet',
        lambda: tiny.faster_rcnn(),
        {'backbone.conv1': 'backbone.bn1', 'backbone.layer1.0.conv1': 'backbone.layer1.0.bn1'},
    ),
    'convmodules': (
        'mmseg',
        lambda: tiny.segmentor('pspnet_r50-d8'),
        {'backbone.stem.0': 'backbone.stem.1', 'decode_head.bottleneck.conv': 'decode_head.bottleneck.bn'},
    ),
    'groups': ('mmdet', lambda: detectors.one_stage('fcos'), {}),
}


@pytest.mark.parametrize('family', PAIRS)
def test_norms_belong_to_the_convolutions_before_them(family):
    scope, config, some = PAIRS[family]
    model = tiny.build(config(), scope=scope)
    found = norms_behind(model)
    assert some.items() <= found.items()
    parts = dict(model.named_modules())
    assert all(parts[path].out_channels == parts[norm].num_features for path, norm in found.items())
    assert not any(path.startswith('bbox_head') for path in found)


def test_norms_that_run_before_or_behind_what_several_share_are_not_folded():
    conv = nn.Conv2d(3, 3, 1)
    shared = nn.ModuleList([nn.Sequential(conv, nn.BatchNorm2d(3)), nn.Sequential(conv, nn.BatchNorm2d(3))])
    assert norms_behind(shared) == {}
    norm = dict(type='BN')
    assert norms_behind(ConvModule(3, 3, 1, norm_cfg=norm)) == {'conv': 'bn'}
    assert norms_behind(ConvModule(3, 3, 1, norm_cfg=norm, order=('norm', 'act', 'conv'))) == {}
    assert norms_behind(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(3))) == {}
    assert norms_behind(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))) == {}


def test_a_transposed_convolution_in_groups_is_rounded_unfolded():
    model = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=2), nn.BatchNorm2d(4)).eval()
    student = seen(model, UniformQuantiser(4), shape=(2, 4, 8, 8))
    assert student.norms == {}
    assert scales_of(dict(state_dict=model.state_dict(), quantised=student.state()))['0'].weight.scale.shape == (2,)


def test_folding_there_and_back_has_the_gradient_of_no_folding():
    model = stack()
    found = quantised(model, UniformQuantiser(8))

    for layer in found.layers.values():
        weight = layer.layer.weight
        (gradient,) = torch.autograd.grad(layer.rounded().sum(), weight)
        assert torch.equal(gradient, torch.ones_like(weight))


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_steps_reach_the_greatest_weight_of_each_channel(axis, layout):
    weight = normal(4, 6, 3, 3).contiguous(memory_format=layout)

    scale = steps_by_channel(weight, 8, 'symmetric', axis).scale

    greatest = [channel.abs().max().item() for channel in weight.unbind(axis)]
    assert (127 * scale).tolist() == pytest.approx(greatest)


def test_a_layer_that_is_called_by_keyword_rounds_what_it_is_given():
    model = nn.Sequential(nn.Linear(4, 2))
    seen(model, UniformQuantiser(2), shape=(3, 4))
    rows = normal(5, 4)
    assert torch.equal(model[0](input=rows), model[0](rows))
    assert not torch.equal(
        model[0](input=rows), nn.functional.linear(rows, symmetric(model[0].weight, 2), model[0].bias)
    )
