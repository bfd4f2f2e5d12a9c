"""The stand-in against what compiled mmcv 2.1.0 answered, through mmcv's public API.

``golden/`` holds inputs, outputs and the gradients of ``(out * cot).sum()``, recorded from compiled mmcv.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import kddense.compat

kddense.compat.enable()
pytest.importorskip('mmcv')

from mmcv import ops  # noqa: E402

pytestmark = pytest.mark.skipif(
    kddense.compat.state() is kddense.compat.State.COMPILED, reason='compiled mmcv is in use: no stand-in to test'
)

DTYPES = [torch.float64, torch.float32]
TOLERANCE = {torch.float64: dict(rtol=1e-6, atol=1e-6), torch.float32: dict(rtol=1e-4, atol=1e-5)}


class Golden:
    """One recorded case: attribute access to its arrays as tensors of one float type."""

    def __init__(self, name, dtype=None):
        with np.load(Path(__file__).parent / 'golden' / f'{name}.npz') as file:
            arrays = {key: torch.from_numpy(np.array(value)) for key, value in file.items() if key != 'meta'}
        self.arrays = {
            key: value.to(dtype) if dtype and value.is_floating_point() and not key.startswith('param_') else value
            for key, value in arrays.items()
        }

    def __getitem__(self, key):
        return self.arrays[key]

    def param(self, name):
        value = self['param_' + name].tolist()
        return tuple(value) if isinstance(value, list) else value

    def leaf(self, key):
        return self[key].clone().requires_grad_()

    def check(self, out, suffix='', **grads_of):
        """Compare ``out``, and after its backward pass the gradient of each leaf, given by the recorded name."""
        tolerance = TOLERANCE[self['out'].dtype] if self['out'].is_floating_point() else {}
        torch.testing.assert_close(out, self['out' + suffix], **tolerance)
        (out * self.arrays.get('cot' + suffix, 1.0)).sum().backward()
        assert grads_of
        for name, leaf in grads_of.items():
            torch.testing.assert_close(leaf.grad, self[name + suffix], **tolerance, msg=lambda m, n=name: f'{n}: {m}')


@pytest.mark.parametrize(
    'suffix, options', [('', {}), ('__score', {'score_threshold': 0.4}), ('__max', {'max_num': 7})]
)
def test_nms(suffix, options):
    golden = Golden('nms_offset0')
    dets, keep = ops.nms(golden['in_boxes'], golden['in_scores'], golden.param('iou_threshold'), **options)
    assert torch.equal(keep, golden['out_keep' + suffix if suffix else 'out'])
    torch.testing.assert_close(dets, golden['out_dets' + suffix])


@pytest.mark.parametrize('offset, expected', [(0, 'out'), (1, 'out_keep_offset1')])
def test_nms_offset(offset, expected):
    golden = Golden('nms_offset_matters')
    assert len(golden['out']) != len(golden['out_keep_offset1'])
    _, keep = ops.nms(golden['in_boxes'], golden['in_scores'], 0.5, offset=offset)
    assert torch.equal(keep, golden[expected])


@pytest.mark.parametrize(
    'kind, suffix, options',
    [
        ('agnostic', '', {}),
        ('agnostic', '__max', {'max_num': 9}),
        ('classaware', '', {}),
        ('classaware', '__max', {'max_num': 9}),
        ('classaware', '__split', {'split_thr': 10}),
    ],
)
def test_batched_nms(kind, suffix, options):
    golden = Golden(f'batched_nms_{kind}_nms')
    config = dict(type='nms', iou_threshold=golden.param('iou_threshold'), **options)
    boxes, scores, classes = golden['in_boxes'], golden['in_scores'], golden['in_idxs']
    dets, keep = ops.batched_nms(boxes, scores, classes, config, class_agnostic=kind == 'agnostic')
    assert torch.equal(keep, golden['out_keep' + suffix if suffix else 'out'])
    torch.testing.assert_close(dets, golden['out_dets' + suffix])


@pytest.mark.parametrize('kind', ['agnostic', 'classaware'])
def test_batched_soft_nms(kind):
    golden = Golden(f'batched_nms_{kind}_softnms')
    config = dict(type='soft_nms', iou_threshold=0.3, min_score=0.05)
    boxes, scores, classes = golden['in_boxes'], golden['in_scores'], golden['in_idxs']
    dets, keep = ops.batched_nms(boxes, scores, classes, config, class_agnostic=kind == 'agnostic')
    assert torch.equal(keep, golden['out'])
    torch.testing.assert_close(dets, golden['out_dets'], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms(method):
    golden = Golden(f'soft_nms_{method}_offset0')
    options = {name: golden.param(name) for name in ('iou_threshold', 'sigma', 'min_score', 'offset')}
    dets, keep = ops.soft_nms(golden['in_boxes'], golden['in_scores'], method=method, **options)
    assert torch.equal(keep, golden['out'])
    torch.testing.assert_close(dets, golden['out_dets'], rtol=1e-5, atol=1e-6)


def test_nms_match():
    golden = Golden('nms_match')
    groups = ops.nms_match(golden['in_dets'], golden.param('iou_threshold'))
    assert [len(group) for group in groups] == golden['out_lengths'].tolist()
    assert torch.equal(torch.cat(groups), golden['out'])


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('aligned', [0, 1])
@pytest.mark.parametrize('offset', [0, 1])
def test_bbox_overlaps(mode, aligned, offset):
    golden = Golden('bbox_overlaps')
    first, second = golden['in_bboxes1'], golden['in_bboxes2']
    overlaps = ops.bbox_overlaps(first[: len(second)] if aligned else first, second, mode, bool(aligned), offset)
    torch.testing.assert_close(overlaps, golden[f'out_{mode}_{aligned}_{offset}'])


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned, ratio', [(0, 0), (1, 0), (1, 2)])
def test_roi_align(mode, aligned, ratio, dtype):
    golden = Golden(f'roi_align_{mode}_aligned{aligned}_sr{ratio}', dtype)
    x = golden.leaf('in_x')
    size, scale = golden.param('output_size'), golden.param('spatial_scale')
    out = ops.roi_align(x, golden['in_rois'], size, scale, ratio, mode, bool(aligned))
    if dtype is torch.float32 and ratio == 2:
        # Samples of RoI 3 lie exactly where the operator jumps to 0; single precision puts them on either side.
        torch.testing.assert_close(out[[0, 1, 2, 4, 5, 6]], golden['out'][[0, 1, 2, 4, 5, 6]], **TOLERANCE[dtype])
    else:
        golden.check(out, grad_x=x)


@pytest.mark.parametrize('dtype', DTYPES)
def test_roi_pool(dtype):
    golden = Golden('roi_pool', dtype)
    x = golden.leaf('in_x')
    golden.check(ops.roi_pool(x, golden['in_rois'], golden.param('output_size'), 0.25), grad_x=x)
    assert not torch.allclose(golden['out'], golden['out_torchvision'])  # what the stand-in is there for


GEOMETRY = ('stride', 'padding', 'dilation', 'groups', 'deform_groups')


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('case', ['basic', 'groups2', 'stride2_dil2_dg4'])
def test_deform_conv(case, dtype):
    golden = Golden(f'deform_conv2d_{case}', dtype)
    x, offset, weight = (golden.leaf(key) for key in ('in_x', 'in_offset', 'w_weight'))
    out = ops.deform_conv2d(x, offset, weight, *(golden.param(name) for name in GEOMETRY))
    golden.check(out, grad_x=x, grad_offset=offset, gradw_weight=weight)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('case', ['basic', 'groups2', 'stride2_dil2_dg4'])
def test_modulated_deform_conv(case, dtype):
    golden = Golden(f'modulated_deform_conv2d_{case}', dtype)
    x, offset, mask, weight, bias = (golden.leaf(k) for k in ('in_x', 'in_offset', 'in_mask', 'w_weight', 'w_bias'))
    out = ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *(golden.param(name) for name in GEOMETRY))
    golden.check(out, grad_x=x, grad_offset=offset, grad_mask=mask, gradw_weight=weight, gradw_bias=bias)


def check_module(golden, module, call, **grads_of):
    """Load the recorded weights into ``module``, compare its output, and every gradient."""
    module.load_state_dict({key[2:]: value for key, value in golden.arrays.items() if key.startswith('w_')})
    weights = {f'gradw_{name}': weight for name, weight in module.named_parameters()}
    golden.check(call(module), **weights, **grads_of)


@pytest.mark.parametrize('name', ['deform_conv2d_pack', 'modulated_deform_conv2d_pack'])
def test_deform_conv_pack(name):
    golden = Golden(name)
    pack = ops.ModulatedDeformConv2dPack if name.startswith('modulated') else ops.DeformConv2dPack
    x = golden.leaf('in_x')
    module = pack(4, 6, 3, padding=1, deform_groups=2, bias=name.startswith('modulated')).double()
    check_module(golden, module, lambda m: m(x), grad_x=x)


@pytest.mark.parametrize('reduction', ['none', 'sum', 'mean'])
def test_sigmoid_focal_loss(reduction):
    golden = Golden(f'sigmoid_focal_loss_{reduction}')
    x = golden.leaf('in_x')
    out = ops.sigmoid_focal_loss(x, golden['in_target'], golden.param('gamma'), golden.param('alpha'), None, reduction)
    golden.check(out, grad_x=x)


def test_softmax_focal_loss():
    golden = Golden('softmax_focal_loss_mean')
    x = golden.leaf('in_x')
    gamma, alpha = golden.param('gamma'), golden.param('alpha')
    golden.check(ops.softmax_focal_loss(x, golden['in_target'], gamma, alpha, golden['in_weight'], 'mean'), grad_x=x)


def attention_function():
    """Return mmcv's two ways to the same numbers: its pure PyTorch one, and what it calls on CUDA tensors: us."""
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch

    def compiled(value, shapes, locations, weights):
        return MultiScaleDeformableAttnFunction.apply(value, shapes, None, locations, weights, 64)

    return [multi_scale_deformable_attn_pytorch, compiled]


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('function', attention_function())
def test_multi_scale_deformable_attention(function, dtype):
    golden = Golden('ms_deform_attn_function', dtype)
    value, locations, weights = (golden.leaf(key) for key in ('in_value', 'in_locations', 'in_weights'))
    out = function(value, golden['in_spatial_shapes'], locations, weights)
    golden.check(out, grad_value=value, grad_locations=locations, grad_weights=weights)


@pytest.mark.parametrize('coordinates', [2, 4])
def test_multi_scale_deformable_attention_module(coordinates):
    golden = Golden(f'ms_deform_attn_module_ref{coordinates}')
    module = ops.MultiScaleDeformableAttention(12, num_heads=3, num_levels=2, num_points=2).double().eval()
    leaves = {name: golden.leaf('in_' + name) for name in ('query', 'value', 'query_pos', 'reference_points')}
    rest = {name: golden['in_' + name] for name in ('key_padding_mask', 'spatial_shapes', 'level_start_index')}
    grads_of = {f'grad_{name}': leaf for name, leaf in leaves.items()}
    check_module(golden, module, lambda m: m(**leaves, **rest), **grads_of)


def test_masked_conv():
    golden = Golden('masked_conv2d')
    module = ops.MaskedConv2d(4, 5, 3, padding=1).double()
    module.load_state_dict({'weight': golden['w_weight'], 'bias': golden['w_bias']})
    torch.testing.assert_close(module(golden['in_x'], golden['in_mask']), golden['out'])
    torch.testing.assert_close(module(golden['in_x']), golden['out_nomask'])


@pytest.mark.parametrize('mode', ['top', 'bottom', 'left', 'right'])
def test_corner_pool_stays_pure_python(mode):
    golden = Golden(f'corner_pool_{mode}')
    x = golden.leaf('in_x')
    golden.check(ops.CornerPool(mode)(x), grad_x=x)


@pytest.mark.parametrize('align_corners', [0, 1])
@pytest.mark.parametrize('suffix', ['', '__grid'])
def test_point_sample_stays_pure_python(align_corners, suffix):
    golden = Golden(f'point_sample_align{align_corners}')
    x, points = golden.leaf('in_x'), golden.leaf('in_points' + suffix)
    out = ops.point_sample(x, points, align_corners=bool(align_corners))
    golden.check(out, suffix, grad_x=x, grad_points=points)


@pytest.mark.parametrize('aligned', [0, 1])
def test_simple_roi_align_stays_pure_python(aligned):
    golden = Golden(f'simple_roi_align_aligned{aligned}')
    x = golden.leaf('in_x')
    module = ops.SimpleRoIAlign(golden.param('output_size'), 0.25, bool(aligned))
    golden.check(module(x, golden['in_rois']), grad_x=x)
