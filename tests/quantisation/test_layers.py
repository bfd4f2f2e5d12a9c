"""Which layers are quantised, and that they are themselves again as soon as they have run."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from kddense import BucketedQuantiser, LearnedPointsQuantiser, TernaryQuantiser, UniformQuantiser
from kddense.quantisation import QuantisedLayer, choose_layers, layers_of, symmetric

from ..helpers import detectors, tiny, transformers


def swapped(model, quantiser, skip=(), ends='quantised'):
    layers = choose_layers(model, skip, ends)
    quantiser.begin({path: layer.weight for path, layer in layers.items()})
    found = [QuantisedLayer(layer, path, quantiser) for path, layer in layers.items()]
    for one in found:
        one.attach()
    return found


def stack():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 5, 2), nn.Flatten(), nn.Linear(5 * 49, 6))


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def by_hand(model):
    """Return what a stack gives with its weights rounded beforehand."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for number in (0, 2, 4):
            layer = other[number]
            layer.weight.copy_(symmetric(layer.weight, 3, axis=1 if number == 2 else 0))
    return other


def test_layers_compute_with_quantised_weights_and_keep_their_own():
    model = stack()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    expected = by_hand(model)
    swaps = swapped(model, UniformQuantiser(3))
    result = model(IMAGES)
    assert torch.equal(result, expected(IMAGES))
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(isinstance(one, nn.Parameter) for one in model.parameters())
    result.square().sum().backward()
    expected(IMAGES).square().sum().backward()
    for own, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(own.grad, other.grad)  # the gradient of the rounded weight, straight through
    for swap in swaps:
        swap.remove()
    assert torch.equal(model(IMAGES), stack()(IMAGES))


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('rounding', ['nearest', 'stochastic'])
def test_recomputed_activations_have_the_same_weights_and_gradients(reentrant, rounding):
    gradients = []
    for recomputes in (False, True):
        model = stack()
        swapped(model, BucketedQuantiser(2, 16, rounding))
        images = IMAGES.clone().requires_grad_()
        result = checkpoint(model, images, use_reentrant=reentrant) if recomputes else model(images)
        result.square().sum().backward()
        gradients.append([one.grad for one in model.parameters()])
        assert all(isinstance(one.weight, nn.Parameter) for one in layers_of(model).values())
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_a_layer_that_fails_has_its_own_weight_again():
    model = stack()
    swapped(model, TernaryQuantiser())
    with pytest.raises(RuntimeError):
        model(IMAGES[:, :2])
    assert all(isinstance(one.weight, nn.Parameter) for one in layers_of(model).values())


def test_stochastic_rounding_depends_on_seed_iteration_and_layer_alone():
    weight = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    quantiser = BucketedQuantiser(2, rounding='stochastic')
    torch.manual_seed(1)
    first, before = quantiser(weight, 'one'), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(quantiser(weight, 'one'), first)
    assert not torch.equal(quantiser(weight, 'two'), first)
    assert not torch.equal(BucketedQuantiser(2, rounding='stochastic', seed=1)(weight, 'one'), first)
    torch.manual_seed(1)
    quantiser.iteration = 1
    assert not torch.equal(quantiser(weight, 'one'), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(quantiser.eval()(weight, 'one'), BucketedQuantiser(2)(weight))


def test_a_deep_copy_has_the_same_points():
    model = stack()
    quantiser = LearnedPointsQuantiser(2)
    swapped(model, quantiser)
    other = copy.deepcopy(model)
    before = other(IMAGES)
    with torch.no_grad():
        quantiser.numbers[0].mul_(0.5)
    assert torch.equal(other(IMAGES), model(IMAGES))
    assert not torch.equal(other(IMAGES), before)


def test_layers_that_run_no_weight_of_their_own_are_left():
    model = nn.ModuleDict(
        dict(attention=nn.MultiheadAttention(8, 2), norm=nn.BatchNorm2d(3), spectral=spectral_norm(nn.Linear(3, 3)))
    )
    assert layers_of(model) == {}
    with pytest.raises(ValueError, match='ModuleDict has no layer to quantise'):
        choose_layers(model, (), 'quantised')


ENDS = {
    'faster_rcnn': [
        'backbone.conv1',
        'rpn_head.rpn_cls',
        'rpn_head.rpn_reg',
        *(f'roi_head.bbox_head.fc_{one}' for one in ('cls', 'reg')),
    ],
    'cascade': [
        'backbone.conv1',
        'rpn_head.rpn_cls',
        'rpn_head.rpn_reg',
        *(f'roi_head.bbox_head.{stage}.fc_{one}' for stage in range(3) for one in ('cls', 'reg')),
    ],
    'mask_rcnn': [
        'backbone.conv1',
        'rpn_head.rpn_cls',
        'rpn_head.rpn_reg',
        'roi_head.bbox_head.fc_cls',
        'roi_head.bbox_head.fc_reg',
        'roi_head.mask_head.conv_logits',
    ],
    'gfl': ['backbone.conv1', 'bbox_head.gfl_cls', 'bbox_head.gfl_reg'],
    'fcos': ['backbone.conv1', 'bbox_head.conv_cls', 'bbox_head.conv_reg', 'bbox_head.conv_centerness'],
    'pspnet': ['backbone.stem.0', 'decode_head.conv_seg', 'auxiliary_head.conv_seg'],
}
MODELS = {
    'faster_rcnn': ('mmdet', tiny.faster_rcnn),
    'cascade': ('mmdet', tiny.cascade_rcnn),
    'mask_rcnn': ('mmdet', tiny.mask_rcnn),
    'gfl': ('mmdet', lambda: detectors.one_stage('gfl')),
    'fcos': ('mmdet', lambda: detectors.one_stage('fcos')),
    'pspnet': ('mmseg', lambda: tiny.segmentor('pspnet_r50-d8')),
}


@pytest.mark.parametrize('name', MODELS)
def test_first_and_last_layers_stay_as_they_are(name):
    scope, config = MODELS[name]
    model = tiny.build(config(), scope=scope)
    left = [path for path in layers_of(model) if path not in choose_layers(model, (), 'float')]
    assert left == ENDS[name]
    assert choose_layers(model, (), 'quantised').keys() == layers_of(model).keys()


def test_a_stack_that_gives_a_prediction_stays_as_a_whole():
    model = tiny.build(transformers.detr('deformable', 8), scope='mmdet')
    left = {path for path in layers_of(model) if path not in choose_layers(model, (), 'float')}
    assert {'bbox_head.cls_branches.0', 'bbox_head.reg_branches.0.0', 'bbox_head.reg_branches.0.4'} <= left
    assert not any(path.startswith(('encoder', 'decoder', 'neck')) for path in left)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.strange = nn.Linear(3, 3), nn.Linear(3, 3)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.decode_head = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)), Head()


def test_what_is_skipped_stays_with_all_in_it():
    model = Model()
    assert [*choose_layers(model, ['decode_head'], 'float')] == ['backbone.1']
    assert [*choose_layers(model, [r'backbone\.\d', r'.*strange'], 'quantised')] == ['decode_head.before']


@pytest.mark.parametrize(
    'skip, ends, message',
    [
        (
            (),
            'float',
            'ends: which layers of decode_head give its predictions is not known, it has decode_head.before, ',
        ),
        (['decode_heat'], 'float', "skip: 'decode_heat' matches no .*; the nearest names are 'decode_head'"),
        (['decode_head.before.weight'], 'float', "skip: 'decode_head.before.weight' matches no convolution"),
        (['*'], 'float', r"skip: '\*' is no regular expression: nothing to repeat"),
        (['.*'], 'quantised', 'Model has no layer to quantise: skip and ends leave out all of its 4 convolutions'),
    ],
)
def test_bad_choices_are_one_sentence(skip, ends, message):
    with pytest.raises(ValueError, match=message):
        choose_layers(Model(), skip, ends)
