"""The stand-in against loops, at the edges, in half precision, and where it has to say no."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kddense.compat

kddense.compat.enable()
pytest.importorskip('mmcv')

from mmcv import ops  # noqa: E402

pytestmark = pytest.mark.skipif(
    kddense.compat.state() is kddense.compat.State.COMPILED, reason='compiled mmcv is in use: no stand-in to test'
)

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def boxes_like(count, size=40, seed=0, dtype=torch.float32):
    start = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * size
    sides = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * size / 2
    return torch.cat([start, start + sides], dim=1).to(dtype)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def iou(a, b, offset):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def nms_loop(boxes, scores, threshold, offset):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), count=st.integers(1, 12), offset=st.sampled_from([0, 1]), threshold=st.sampled_from([0.31, 0.57])
)
def test_nms_agrees_with_a_loop(data, count, offset, threshold):
    # integer corners: every IoU is exact, and none of their ratios equals the threshold
    corner = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))
    corners = data.draw(st.lists(corner, min_size=count, max_size=count))
    boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    scores = data.draw(st.permutations(range(count)))
    _, keep = ops.nms(torch.tensor(boxes).float(), torch.tensor(scores).float() / 16, threshold, offset)
    assert keep.tolist() == nms_loop(boxes, scores, threshold, offset)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms_agrees_with_a_loop(method, offset):
    boxes, scores = boxes_like(25, dtype=torch.float64).tolist(), torch.rand(25).tolist()
    decay = {
        'naive': lambda v: float(v < 0.3),
        'linear': lambda v: 1 - v if v >= 0.3 else 1.0,
        'gaussian': lambda v: math.exp(-v * v / 0.5),
    }[method]
    left, picked = dict(enumerate(scores)), []
    while left:
        best = max(left, key=left.get)
        picked.append((best, left.pop(best)))
        left = {i: s * decay(iou(boxes[best], boxes[i], offset)) for i, s in left.items()}
        left = {i: s for i, s in left.items() if s >= 0.05}
    dets, keep = ops.soft_nms(
        torch.tensor(boxes).float(), torch.tensor(scores), 0.3, 0.5, 0.05, method=method, offset=offset
    )
    assert keep.tolist() == [i for i, _ in picked]
    torch.testing.assert_close(dets[:, 4], torch.tensor([s for _, s in picked]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('device', DEVICES)
def test_one_box_and_none(device):
    none, one = torch.zeros(0, 4, device=device), torch.tensor([[1.0, 2, 5, 6]], device=device)
    for offset in (0, 1):
        assert ops.nms(none, none[:, 0], 0.5, offset)[1].tolist() == []
        assert ops.nms(one, one[:, 0], 0.5, offset)[1].tolist() == [0]
        assert ops.soft_nms(none, none[:, 0], offset=offset)[1].tolist() == []
        assert ops.soft_nms(one, one[:, 0], offset=offset)[0].tolist() == [[1, 2, 5, 6, 1]]
    assert ops.nms_match(torch.cat([one, one[:, :1]], dim=1), 0.5)[0].tolist() == [0]
    assert ops.bbox_overlaps(one, one).tolist() == [[1]]


def test_nms_takes_numpy_and_boxes_without_area():
    point = np.zeros((3, 4), dtype=np.float32)
    assert ops.nms(point, np.float32([0.1, 0.3, 0.2]), 0.5)[1].tolist() == [1, 2, 0]
    assert ops.soft_nms(point, np.float32([0.1, 0.3, 0.2]), 0.5)[1].tolist() == [1, 2, 0]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    'operator', [ops.RoIAlign((2, 3), 0.5), ops.RoIAlign((2, 3), 0.5, pool_mode='max'), ops.RoIPool((2, 3), 0.5)]
)
def test_no_rois_is_an_empty_output_that_back_propagates(operator, device):
    x = torch.rand(2, 3, 8, 8, device=device, requires_grad=True)
    out = operator(x, torch.zeros(0, 5, device=device))
    assert out.shape == (0, 3, 2, 3)
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert not x.grad.any()


def bilinear(feature, y, x):
    height, width = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    total = 0.0
    for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
            total += feature[row, column].item() * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_agrees_with_a_loop(mode, aligned, ratio):
    feature = randn(1, 1, 6, 7)
    rois = torch.tensor([[0, 1.3, 2.2, 9.1, 11.7], [0, -3, 4, 14.6, 5.2], [0, 5, 5, 5.3, 5.2]], dtype=torch.float64)
    shift = 0.5 if aligned else 0.0
    expected = torch.zeros(3, 1, 2, 3, dtype=torch.float64)
    for r, (_, x1, y1, x2, y2) in enumerate(rois.tolist()):
        (y, h), (x, w) = ((a / 2 - shift, (b - a) / 2) for a, b in ((y1, y2), (x1, x2)))
        h, w = (h, w) if aligned else (max(h, 1), max(w, 1))
        rows, columns = ratio or math.ceil(h / 2), ratio or math.ceil(w / 3)
        for i in range(2):
            for j in range(3):
                samples = [
                    bilinear(feature[0, 0], y + h / 2 * (i + (a + 0.5) / rows), x + w / 3 * (j + (b + 0.5) / columns))
                    for a in range(rows)
                    for b in range(columns)
                ]
                expected[r, 0, i, j] = max(samples) if mode == 'max' else sum(samples) / len(samples)
    torch.testing.assert_close(ops.roi_align(feature, rois, (2, 3), 0.5, ratio, mode, aligned), expected)


def test_roi_pool_agrees_with_a_loop():
    feature = randn(2, 2, 9, 11)
    rois = torch.cat([torch.tensor([0.0, 1, 1, 0, 1])[:, None], boxes_like(5, 16)], dim=1).double()
    out = ops.roi_pool(feature, rois, (2, 3), 0.5)
    for r, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        for i in range(2):
            for j in range(3):
                h, w = (y2 + 1 - y1) / 4, (x2 + 1 - x1) / 6
                rows = slice(math.floor(y1 / 2 + i * h), math.ceil(y1 / 2 + (i + 1) * h))
                columns = slice(math.floor(x1 / 2 + j * w), math.ceil(x1 / 2 + (j + 1) * w))
                bin_ = feature[int(image), :, rows, columns]
                expected = bin_.amax(dim=(1, 2)) if bin_.numel() else torch.zeros(2, dtype=torch.float64)
                torch.testing.assert_close(out[r, :, i, j], expected)


def deform_conv_loop(x, offset, weight, mask):
    """Stride 1, padding 1, one group: sample at dy, dx from each kernel point, zero outside."""
    out = torch.zeros(weight.shape[0], *x.shape[1:], dtype=x.dtype)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))  # so that the sampler's border is the operator's
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            for k in range(9):
                dy, dx = offset[2 * k : 2 * k + 2, i, j].tolist()
                y, x_at = i + k // 3 - 1 + dy, j + k % 3 - 1 + dx
                if -1 < y < x.shape[1] and -1 < x_at < x.shape[2]:
                    sample = torch.tensor([bilinear(plane, y + 1, x_at + 1) for plane in padded], dtype=x.dtype)
                    out[:, i, j] += weight[:, :, k // 3, k % 3] @ sample * mask[k, i, j]
    return out


def test_deform_conv_agrees_with_a_loop():
    x, offset, weight = randn(1, 2, 5, 6), randn(1, 18, 5, 6, seed=1), randn(3, 2, 3, 3, seed=2)
    mask = torch.rand(1, 9, 5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    plain = deform_conv_loop(x[0], offset[0], weight, torch.ones_like(mask[0]))
    torch.testing.assert_close(ops.deform_conv2d(x, offset, weight, 1, 1)[0], plain)
    modulated = deform_conv_loop(x[0], offset[0], weight, mask[0])
    torch.testing.assert_close(ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)[0], modulated)


def test_offsets_of_a_larger_map_are_read_by_the_outputs_size():
    """As mmcv's kernels run through memory: the first numbers of each image, whatever their height and width."""
    x, weight = randn(2, 2, 3, 4), randn(3, 2, 3, 3, seed=2)
    grads = []
    for larger in (True, False):
        offset, mask = randn(2, 18, 6, 8, seed=1).requires_grad_(), randn(2, 9, 6, 8, seed=3).requires_grad_()
        given = (offset, mask)
        if not larger:
            given = tuple(one.flatten(1)[:, : one.shape[1] * 12].view(2, -1, 3, 4) for one in given)
        out = ops.modulated_deform_conv2d(x, *given, weight, None, 1, 1)
        out.square().sum().backward()
        grads.append((out, offset.grad, mask.grad))
    torch.testing.assert_close(*grads)
    assert grads[0][1].any()


@pytest.mark.parametrize('modulated', [False, True])
def test_offsets_that_are_no_numbers_give_none_and_the_process_lives(modulated):
    """As a model with weights that are NaN gives them; torchvision's own kernel reads outside of memory."""
    x, offset, mask = randn(1, 3, 6, 5), torch.zeros(1, 18, 6, 5, dtype=torch.float64), randn(1, 9, 6, 5)
    offset[0, 0, 0, 0] = torch.nan
    inputs = [one.requires_grad_() for one in (x, offset, mask, randn(4, 3, 3, 3))]
    if modulated:
        out = ops.modulated_deform_conv2d(*inputs, None, 1, 1)
    else:
        out = ops.deform_conv2d(inputs[0], inputs[1], inputs[3], 1, 1)
    out.sum().backward()
    assert out.isnan().all()
    beyond = torch.full_like(offset, torch.inf)
    assert not ops.deform_conv2d(x, beyond, inputs[3], 1, 1).any()


def test_deform_conv_without_offsets_is_a_convolution_also_in_its_gradients():
    grads = []
    for deform in (True, False):
        x, weight = randn(2, 4, 6, 5).requires_grad_(), randn(3, 4, 3, 3, seed=1).requires_grad_()
        offset = torch.zeros(2, 18, 6, 5, dtype=torch.float64)
        convolve = torch.nn.functional.conv2d
        out = ops.deform_conv2d(x, offset, weight, 1, 1) if deform else convolve(x, weight, padding=1)
        out.square().sum().backward()
        grads.append((out, x.grad, weight.grad))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize('weighted', [True, False])
def test_sigmoid_focal_loss_agrees_with_its_formula(weighted):
    x, target = randn(7, 3).requires_grad_(), torch.tensor([0, 1, 2, 3, 3, 1, 0])
    weight = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64) if weighted else None
    out = ops.sigmoid_focal_loss(x, target, 1.5, 0.3, weight, 'sum')
    y = torch.nn.functional.one_hot(target, 4)[:, :3].double()
    p = x.sigmoid()
    right = p * y + (1 - p) * (1 - y)
    expected = -(0.3 * y + 0.7 * (1 - y)) * (1 - right) ** 1.5 * right.log()
    if weighted:
        expected = expected * torch.cat([weight, weight.new_ones(1)])[target, None]
    torch.testing.assert_close(out, expected.sum())
    grad = torch.autograd.grad(expected.sum(), x)[0]
    out.backward()
    torch.testing.assert_close(x.grad, grad)


def test_focal_loss_of_confident_logits_is_finite():
    x = torch.tensor([[200.0, -200.0]], requires_grad=True)
    ops.sigmoid_focal_loss(x, torch.tensor([1])).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize('operator', [ops.carafe, ops.carafe_naive])
def test_carafe_agrees_with_a_loop(operator):
    x, kernels = randn(2, 4, 3, 5), randn(2, 18, 6, 10, seed=1)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    out = operator(x, kernels, 3, 2, 2)
    for c in range(4):
        for i in range(6):
            for j in range(10):
                patch = padded[:, c, i // 2 : i // 2 + 3, j // 2 : j // 2 + 3].reshape(2, 9)
                expected = (patch * kernels[:, c // 2 * 9 : c // 2 * 9 + 9, i, j]).sum(dim=1)
                torch.testing.assert_close(out[:, c, i, j], expected)


def test_carafe_gradient_is_exact():
    inputs = [randn(1, 2, 2, 3).requires_grad_(), randn(1, 9, 4, 6, seed=1).requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, kernels: ops.carafe(x, kernels, 3, 1, 2), inputs)


@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_psa_mask_agrees_with_a_loop(kind):
    mask_of = randn(2, 15, 4, 3).requires_grad_()  # masks of 5 x 3 on maps of 4 x 3
    out = ops.PSAMask(kind, (5, 3))(mask_of)
    expected = torch.zeros(2, 4, 3, 4, 3, dtype=torch.float64)  # seen position by seeing position
    for i, j, y, x in np.ndindex(4, 3, 4, 3):
        row, column = y - i + 2, x - j + 1
        if 0 <= row < 5 and 0 <= column < 3:
            expected[:, y, x, i, j] = mask_of[:, row * 3 + column, i, j].detach()
    expected = expected if kind == 'collect' else expected.permute(0, 3, 4, 1, 2)
    torch.testing.assert_close(out, expected.reshape(2, 12, 4, 3))
    assert torch.autograd.gradcheck(ops.PSAMask(kind, (5, 3)), mask_of)


def test_masked_conv_computes_only_where_asked():
    module = ops.MaskedConv2d(2, 3, (3, 5), padding=(1, 2)).double()
    x, mask = randn(1, 2, 6, 7), (torch.arange(42).view(1, 6, 7) % 3 == 0).double()
    torch.testing.assert_close(module(x, mask), module(x) * mask)
    assert not module(x, torch.zeros_like(mask)).any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('device', DEVICES)
def test_half_precision_is_computed_in_single(dtype, device):
    boxes, scores = boxes_like(30).to(device), torch.rand(30, device=device)
    assert ops.nms(boxes.to(dtype), scores.to(dtype), 0.5)[1].device == boxes.device
    rois = torch.cat([torch.zeros(30, 1, device=device), boxes], dim=1).to(dtype)
    x, offset = randn(1, 4, 12, 12).to(device, dtype), randn(1, 18, 12, 12, seed=1).to(device, dtype)
    weight, mask = randn(2, 4, 3, 3, seed=2).to(device, dtype), torch.rand(1, 9, 12, 12, device=device).to(dtype)
    target = torch.arange(12, device=device) % 5

    def same(tensor):
        return tensor

    calls = [
        lambda x, cast: ops.roi_align(x, cast(rois), 3, 0.25, 0, 'avg', True),
        lambda x, cast: ops.roi_align(x, cast(rois), 3, 0.25, 2, 'max', False),
        lambda x, cast: ops.roi_pool(x, cast(rois), 3, 0.25),
        lambda x, cast: ops.deform_conv2d(x, cast(offset), cast(weight), 1, 1),
        lambda x, cast: ops.modulated_deform_conv2d(x, cast(offset), cast(mask), cast(weight), None, 1, 1),
        lambda x, cast: ops.sigmoid_focal_loss(x[0, :, 0].T.contiguous(), target, 2.0, 0.25, None, 'none'),
    ]
    for call in calls:
        half_x, single_x = x.clone().requires_grad_(), x.float().requires_grad_()
        half, single = call(half_x, same), call(single_x, torch.Tensor.float)
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), single, rtol=2e-2, atol=2e-2)
        half.sum().backward()
        single.sum().backward()
        assert half_x.grad.dtype == dtype
        scale = single_x.grad.abs().max().item()
        torch.testing.assert_close(half_x.grad.float(), single_x.grad, rtol=2e-2, atol=2e-2 * scale)


@pytest.mark.parametrize('device', DEVICES)
def test_every_device_agrees_with_the_cpu(device):
    x, rois = randn(2, 3, 16, 16), torch.cat([torch.arange(6)[:, None] % 2, boxes_like(6)], dim=1).double()
    for operator in (ops.RoIAlign(3, 0.4), ops.RoIAlign(3, 0.4, 2, 'max'), ops.RoIPool(3, 0.4)):
        torch.testing.assert_close(operator(x.to(device), rois.to(device)).cpu(), operator(x, rois))


def test_an_operator_without_stand_in_imports_and_says_so_when_called():
    from mmcv.ops.nms import ext_module

    with pytest.raises(NotImplementedError, match=r"'nms_rotated' has no stand-in .* install compiled mmcv 2\.1"):
        ops.nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)
    assert ext_module.nms_rotated.__name__ == 'nms_rotated'
    assert not hasattr(ext_module, '__path__')


def test_mmengine_believes_in_the_operators():
    from mmcv.ops import get_compiling_cuda_version
    from mmengine.utils.dl_utils import mmcv_full_available

    assert mmcv_full_available()
    assert 'kddense' in get_compiling_cuda_version()
