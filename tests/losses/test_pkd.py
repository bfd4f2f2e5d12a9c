"""Pearson distance: the worked example, its two deviations, constant channels, and detectors of two kinds."""

import numpy as np
import pytest
import torch

from kddense.losses import PKDLoss, pearson_distance

from ..helpers import tiny

TEACHER = torch.tensor([0.0, 1, 2, 3]).view(1, 1, 2, 2)
STUDENT = torch.tensor([0.0, 0, 1, 1]).view(1, 1, 2, 2)
MODES = pytest.mark.parametrize('mode', ['paper', 'code'])


def random_maps(shape=(3, 4, 5, 6), dtype=torch.float64):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize('mode, value', [('paper', 0.105573), ('code', 0.0791794)])
def test_the_worked_example(mode, value):
    assert pearson_distance(STUDENT.double(), TEACHER.double(), mode).item() == pytest.approx(value, rel=1e-5)


def test_it_is_one_minus_the_correlation():
    student, teacher = random_maps()
    rows = (maps.transpose(0, 1).flatten(1).numpy() for maps in (student, teacher))
    expected = np.mean([1 - np.corrcoef(own, other)[0, 1] for own, other in zip(*rows, strict=True)])
    np.testing.assert_allclose(pearson_distance(student, teacher), expected, rtol=1e-9)


def test_the_code_takes_the_unbiased_deviation():
    student, teacher = random_maps()
    total = 0.0
    for channel in range(4):
        own, other = (maps[:, channel].numpy() for maps in (student, teacher))
        own, other = ((values - values.mean()) / (values.std(ddof=1) + 1e-6) for values in (own, other))
        total += ((own - other) ** 2).mean() / 2
    np.testing.assert_allclose(pearson_distance(student, teacher, mode='code'), total / 4, rtol=1e-5)


def test_scale_and_shift_of_channels_do_not_matter():
    student, teacher = random_maps()
    scale, shift = torch.rand(2, 4, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = pearson_distance(student, teacher)
    torch.testing.assert_close(pearson_distance(student * (0.1 + scale) - shift, 100 * teacher + shift), wanted)
    assert pearson_distance(3 * teacher + 1, teacher).item() == pytest.approx(0, abs=1e-9)
    assert pearson_distance(-teacher, teacher).item() == pytest.approx(2)


@MODES
def test_gradient_is_exact(mode):
    student, teacher = random_maps((2, 3, 2, 2))
    assert torch.autograd.gradcheck(lambda s: pearson_distance(s, teacher, mode), student.requires_grad_())


@MODES
@pytest.mark.parametrize('constant', [0.0, 1000.1])
def test_constant_channels_are_safe(mode, constant):
    """A dead channel of either side: half a share, as for no correlation, and a finite gradient."""
    student, teacher = random_maps((2, 2, 8, 8), torch.float32)
    student[:, 0] = constant
    student.requires_grad_()
    value = pearson_distance(student, teacher, mode)
    value.backward()
    alive = pearson_distance(student[:, 1:], teacher[:, 1:], mode).item()
    dead = 0.5 if mode == 'paper' else 0.5 * 127 / 128
    assert value.item() == pytest.approx((dead + alive) / 2, rel=1e-3)
    assert student.grad.isfinite().all()
    dead_teacher = pearson_distance(teacher.clone().requires_grad_(), torch.zeros_like(teacher), mode)
    assert dead_teacher.item() == pytest.approx(dead, rel=1e-3)


def test_one_value_per_channel_is_a_zero_that_back_propagates():
    for shape in ((1, 4, 1, 1), (0, 4, 8, 8)):
        student = torch.ones(shape, requires_grad=True)
        value = pearson_distance(student, torch.zeros(shape))
        value.backward()
        assert value.item() == 0
        assert not student.grad.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = (100 * random_maps((2, 8, 16, 16), torch.float32) + 300).to(dtype)
    expected = pearson_distance(student.double(), teacher.double())
    student.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = pearson_distance(student, teacher.float())
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=0)
    assert student.grad.isfinite().all()


def test_teacher_is_a_constant():
    student, teacher = (maps.clone().requires_grad_() for maps in (STUDENT, TEACHER))
    pearson_distance(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.any()


def test_memory_format_does_not_matter():
    student, teacher = random_maps()
    last = student.to(memory_format=torch.channels_last)
    torch.testing.assert_close(pearson_distance(last, teacher), pearson_distance(student, teacher))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r'one shape, got \(1, 1, 2, 2\), \(1, 1, 2, 1\)'):
        pearson_distance(STUDENT, TEACHER[..., :1])
    with pytest.raises(ValueError, match=r'maps of shape \(N, C, H, W\), got \(1, 2, 2\)'):
        pearson_distance(STUDENT[0], TEACHER[0])
    with pytest.raises(ValueError, match="mode must be one of 'paper', 'code', got 'mean'"):
        PKDLoss(mode='mean')
    with pytest.raises(ValueError, match="mode must be one of 'paper', 'code', got 'mean'"):
        pearson_distance(STUDENT, TEACHER, mode='mean')


def recipe(name):
    from mmengine.config import Config

    return Config.fromfile(f'configs/_base_/recipes/{name}.py').objectives.to_dict()


@pytest.mark.parametrize(
    'detector, objectives',
    [(tiny.faster_rcnn, 'pkd'), (lambda **sizes: tiny.single_stage('retinanet', **sizes), 'pkd_one_stage')],
    ids=['two-stage', 'one-stage'],
)
@pytest.mark.parametrize('fpn', [16, 24], ids=['same channels', 'connected'])
def test_the_recipes_on_detectors(detector, objectives, fpn):
    """The value is the mean over four levels, times what the authors' code adds up."""
    model = tiny.distiller(detector(), detector(width=16, fpn=fpn), recipe(objectives))
    (objective,) = model.objectives.values()
    assert len(objective.connectors) == 4
    assert all(isinstance(layer, torch.nn.Identity) == (fpn == 16) for layer in objective.connectors)
    data = tiny.detection_data()
    losses = tiny.step(model, data)
    value = losses['distill.pkd.loss']
    value.backward()
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    inputs = model.data_preprocessor(data, True)['inputs']
    with torch.no_grad():
        ours, theirs = (one.extract_feat(inputs)[:4] for one in (model.student, model.teachers['teacher'].model))
        triples = zip(objective.connectors, ours, theirs, strict=True)
        levels = [pearson_distance(connector(own), other) for connector, own, other in triples]
    each = {'pkd': 6, 'pkd_one_stage': 10}[objectives]
    torch.testing.assert_close(value.detach(), each * sum(levels), rtol=1e-4, atol=1e-5)
