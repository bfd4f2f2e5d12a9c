"""VGG as a backbone: torchvision's names and numbers, what is frozen, what it refuses."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from kddense.models import VGG


@pytest.mark.parametrize(('depth', 'letter'), [(11, 'A'), (16, 'D')])
@pytest.mark.parametrize('with_bn', [False, True])
def test_it_is_torchvisions_network(depth, letter, with_bn):
    theirs = make_layers(cfgs[letter], batch_norm=with_bn).eval()
    ours = VGG(depth, with_bn).eval()

    ours.load_state_dict({f'features.{key}': value for key, value in theirs.state_dict().items()})

    images = torch.randn(1, 3, 64, 96)
    expected, poolings = images, []
    for layer in theirs:
        expected = layer(expected)
        if isinstance(layer, nn.MaxPool2d):
            poolings.append(expected)
    for level, pooled in zip(ours(images), poolings[1:], strict=True):
        torch.testing.assert_close(level, pooled)


def test_one_stage_is_still_a_tuple():
    levels = VGG(11, out_indices=[3])(torch.zeros(1, 3, 32, 32))

    assert [tuple(level.shape) for level in levels] == [(1, 512, 2, 2)]


def test_frozen_stages_are_frozen_from_the_start_and_stay_so():
    model = VGG(11, frozen_stages=2)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

    assert frozen == {f'features.{layer}.{kind}' for layer in (0, 3) for kind in ('weight', 'bias')}
    assert model.train() is model
    assert frozen == {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval(norm_eval):
    model = VGG(11, with_bn=True, norm_eval=norm_eval).train()

    assert all(norm.training != norm_eval for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))


def test_pretrained_weights_are_loaded_through_the_registry(tmp_path):
    source = make_layers(cfgs['A'])
    weights = {f'features.{key}': value for key, value in source.state_dict().items()}
    torch.save({**weights, 'classifier.0.bias': torch.zeros(3)}, tmp_path / 'vgg11.pth')
    config = dict(
        type='kddense.VGG', depth=11, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vgg11.pth'))
    )

    model = MODELS.build(config)
    model.init_weights()

    assert torch.equal(model.features[0].weight, source[0].weight)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=12), 'depth must be one of 11, 13, 16, 19, got 12'),
        (dict(out_indices=(4, 5)), r'out_indices must name stages of 0 to 4, got \(4, 5\)'),
        (dict(out_indices=()), r'out_indices must be a list of whole numbers, and not empty, got \(\)'),
        (dict(frozen_stages=6), 'frozen_stages must be 0 to 5, got 6'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        VGG(**arguments)
