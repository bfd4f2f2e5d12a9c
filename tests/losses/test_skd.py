"""Structured distillation's losses: worked numbers, loops, float64, and what they need in memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.utils import digit_version
from torch.utils._python_dispatch import TorchDispatchMode

from kddense.losses import PairWiseLoss, PixelWiseLoss, _pair_wise, pair_wise_similarity, pixel_wise_divergence, skd
from kddense.taps import tensors_of

TEACHER = torch.tensor([[[[2.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 1.0]]]])
STUDENT = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]])


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is open, and their peak."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {tensor.untyped_storage()._cdata for tensor in tensors_of(args)}
        result = function(*args, **(kwargs or {}))
        for tensor in tensors_of(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in before | self._known:
                self._add(storage)
        return result

    def _add(self, storage):
        size, key = storage.nbytes(), storage._cdata
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, size, key)

    def _forget(self, size, key):
        self.now -= size
        self._known.discard(key)


def logits(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# --- pixel-wise


@pytest.mark.parametrize(
    ('options', 'value'),
    [
        ({}, 0.0936226),
        (dict(direction='student_teacher'), 0.0967759),
        (dict(mode='code'), 0.622863),
    ],
)
def test_pixels_of_the_worked_example(options, value):
    assert pixel_wise_divergence(STUDENT, TEACHER, **options).item() == pytest.approx(value, abs=1e-6)


def test_the_code_grows_with_the_batch_and_the_paper_does_not():
    student, teacher = STUDENT.repeat(2, 1, 1, 1), TEACHER.repeat(2, 1, 1, 1)

    assert pixel_wise_divergence(student, teacher, mode='code').item() == pytest.approx(1.245726, abs=1e-6)
    assert pixel_wise_divergence(student, teacher).item() == pytest.approx(0.0936226, abs=1e-6)


def loop_over_pixels(student, teacher, direction, temperature, mask, classes):
    student, teacher = (side.double().numpy() / temperature for side in (student, teacher))
    total, count = 0.0, 0
    for n, y, x in np.ndindex(student.shape[0], *student.shape[2:]):
        if mask is not None and not mask[n, y, x]:
            continue
        count += 1
        s, t = student[n, :, y, x], teacher[n, :, y, x]
        if classes == 'softmax':
            pairs = [(np.exp(s) / np.exp(s).sum(), np.exp(t) / np.exp(t).sum())]
        else:
            p, q = 1 / (1 + np.exp(-s)), 1 / (1 + np.exp(-t))
            pairs = [(np.array([a, 1 - a]), np.array([b, 1 - b])) for a, b in zip(p, q, strict=True)]
        for p, q in pairs:
            first, second = (p, q) if direction == 'student_teacher' else (q, p)
            total += float((first * np.log(first / second)).sum())
    return temperature**2 * total / max(count, 1)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('direction', ['student_teacher', 'teacher_student'])
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_pixels_agree_with_a_loop(classes, direction, masked, temperature):
    student, teacher = logits(2, 3, 4, 5), 2 * logits(2, 3, 4, 5, seed=1)
    mask = logits(2, 4, 5, seed=2) > 0 if masked else None

    value = pixel_wise_divergence(
        student, teacher, direction=direction, temperature=temperature, mask=mask, classes=classes
    )

    wanted = loop_over_pixels(student, teacher, direction, temperature, mask, classes)
    assert value.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
def test_the_code_is_a_cross_entropy(classes):
    student, teacher = logits(3, 4, 5, 6), logits(3, 4, 5, 6, seed=1)
    if classes == 'softmax':
        entropy = -(teacher.softmax(1) * student.log_softmax(1)).sum() / 30
    else:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction='sum') / 30

    value = pixel_wise_divergence(student, teacher, mode='code', classes=classes)

    torch.testing.assert_close(value, entropy)


@pytest.mark.parametrize('classes', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('options', [{}, dict(direction='student_teacher'), dict(mode='code'), dict(temperature=2.0)])
def test_gradient_of_the_pixels(classes, options):
    student = logits(2, 3, 2, 3, dtype=torch.float64).requires_grad_()
    teacher = logits(2, 3, 2, 3, seed=1, dtype=torch.float64)
    mask = torch.ones(2, 2, 3, dtype=torch.bool)
    mask[0, 1] = False

    assert torch.autograd.gradcheck(
        lambda value: pixel_wise_divergence(value, teacher, mask=mask, classes=classes, **options), student
    )


def test_no_pixel_gives_a_zero_that_backpropagates():
    student = STUDENT.clone().requires_grad_()
    nothing = torch.zeros(1, 2, 2, dtype=torch.bool)

    value = pixel_wise_divergence(student, TEACHER, mask=nothing)
    value.backward()

    assert value.item() == 0
    assert student.grad.abs().sum() == 0


@pytest.mark.parametrize('direction', ['student_teacher', 'teacher_student'])
def test_pixels_need_three_copies_of_the_logits(direction):
    copies = 3.2 if digit_version(torch.__version__) >= digit_version('2.6') else 4.2  # PyTorch 2.1 keeps one more
    student, teacher = torch.zeros(2, 19, 32, 64).requires_grad_(), torch.ones(2, 19, 32, 64)

    with LiveMemory() as memory:
        pixel_wise_divergence(student, teacher, direction=direction).backward()

    assert memory.peak <= copies * student.nbytes  # and maps of one value per pixel
    assert memory.peak >= 2 * student.nbytes  # it does see them


def test_half_precision_is_widened():
    value = pixel_wise_divergence(STUDENT.bfloat16(), TEACHER.half())

    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(0.0936226, abs=1e-6)
    with torch.autocast('cpu', torch.bfloat16):
        assert pixel_wise_divergence(STUDENT, TEACHER).item() == pytest.approx(0.0936226, abs=1e-6)


def test_teacher_is_a_constant():
    teacher = TEACHER.clone().requires_grad_()

    pixel_wise_divergence(STUDENT.clone().requires_grad_(), teacher).backward()

    assert teacher.grad is None


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mode='papers'), 'mode must be one of'),
        (dict(direction='up'), 'direction must be one of'),
        (dict(mode='code', direction='student_teacher'), "must be 'teacher_student' in mode 'code'"),
        (dict(temperature=0), 'temperature must be above 0'),
        (dict(classes='hinge'), 'classes must be one of'),
    ],
)
def test_bad_options_of_the_pixels(options, message):
    with pytest.raises(ValueError, match=message):
        pixel_wise_divergence(STUDENT, TEACHER, **options)
    with pytest.raises(ValueError, match=message):
        PixelWiseLoss(**options)


def test_bad_shapes_of_the_pixels():
    with pytest.raises(ValueError, match='must have one shape'):
        pixel_wise_divergence(STUDENT, TEACHER[..., :1])
    with pytest.raises(ValueError, match=r'shape \(N, K, H, W\)'):
        pixel_wise_divergence(STUDENT[0], TEACHER[0])
    with pytest.raises(ValueError, match='mask must be boolean'):
        pixel_wise_divergence(STUDENT, TEACHER, mask=torch.ones(1, 2, 2))


def test_the_pixel_module_is_the_function():
    loss = PixelWiseLoss(direction='student_teacher', temperature=2.0, classes='sigmoid')

    wanted = pixel_wise_divergence(STUDENT, TEACHER, direction='student_teacher', temperature=2.0, classes='sigmoid')
    torch.testing.assert_close(loss(STUDENT, TEACHER), wanted)


# --- pair-wise


def test_pairs_of_the_worked_example():
    teacher = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]]]])
    student = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]]])

    assert pair_wise_similarity(student, teacher, (1, 1)).item() == pytest.approx(0.141085, abs=1e-6)


@pytest.mark.parametrize(
    ('options', 'value'),
    [({}, 0.0562616), (dict(connections=4), 0.0562616), (dict(pool='max', pool_scale=0.5), 0.0281893)],
)
def test_pairs_of_pooled_maps(options, value):
    ramp = torch.arange(16.0).view(4, 4)
    teacher = torch.stack([ramp, 15 - ramp])[None]
    student = torch.stack([ramp.flip(1), torch.full((4, 4), 5.0)])[None]

    assert pair_wise_similarity(student, teacher, **options).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(('size', 'nodes'), [(65, 3), (64, 2), (97, 3), (128, 2)])
def test_nodes_of_the_released_code(size, nodes):
    maps = skd._nodes(torch.zeros(1, 1, size, size), (2, 2), 'max', 0.5)

    assert maps.shape[2:] == (nodes, nodes)


def nodes_by_loop(maps, granularity, pool):
    height, width = maps.shape[1:]
    down, right = granularity
    reduce = np.mean if pool == 'average' else np.max
    return np.array(
        [
            [reduce(maps[:, y : y + down, x : x + right], axis=(1, 2)) for x in range(0, width, right)]
            for y in range(0, height, down)
        ]
    )


def nearest(place, places, connections):
    """Sort by Chebyshev distance; of equally distant places take the one that is nearest as the crow flies."""

    def distance(other):
        down, right = (b - a for a, b in zip(place, other, strict=True))
        return max(abs(down), abs(right)), down**2 + right**2, down, right

    return sorted(places, key=distance)[:connections]


def loop_over_pairs(student, teacher, granularity, pool, connections):
    losses = []
    for own, other in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        own, other = (nodes_by_loop(side, granularity, pool) for side in (own, other))
        own, other = (side / np.linalg.norm(side, axis=2, keepdims=True) for side in (own, other))
        places = list(np.ndindex(*own.shape[:2]))
        total = 0.0
        for place in places:
            near = nearest(place, places, connections or len(places))
            total += sum((own[place] @ own[one] - other[place] @ other[one]) ** 2 for one in near)
        losses.append(total / (len(places) * (connections or len(places))))
    return float(np.mean(losses))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pairs_agree_with_brute_force(data):
    height, width = (data.draw(st.integers(2, 7)) for _ in range(2))
    granularity = tuple(data.draw(st.integers(1, 2)) for _ in range(2))
    nodes = [-(-length // step) for length, step in zip((height, width), granularity, strict=True)]
    connections = data.draw(st.none() | st.integers(1, nodes[0] * nodes[1]))
    pool = data.draw(st.sampled_from(['average', 'max']))
    own, other = (data.draw(st.integers(2, 12)) for _ in range(2))
    student = logits(2, own, height, width, seed=data.draw(st.integers(0, 99)))
    teacher = logits(2, other, height, width, seed=data.draw(st.integers(100, 199)))

    value = pair_wise_similarity(student, teacher, granularity, pool=pool, connections=connections)

    wanted = loop_over_pairs(student, teacher, granularity, pool, connections)
    assert value.item() == pytest.approx(wanted, rel=1e-5, abs=1e-12)


def plain_pair_wise(student, teacher, connections=None, norm=None):
    """The formula as it is written: every affinity is built, and autograd finds the gradient.

    ``norm`` takes the place of the lengths of the student's features.
    """
    height, width = student.shape[2:]
    own = student / student.norm(dim=1, keepdim=True) if norm is None else student / norm
    other = teacher / teacher.norm(dim=1, keepdim=True)
    own, other = (nodes.flatten(2).transpose(1, 2) @ nodes.flatten(2) for nodes in (own, other))
    difference = (own - other).square()
    if connections is None:
        return difference.mean()
    places = list(np.ndindex(height, width))
    near = torch.tensor([[places.index(one) for one in nearest(place, places, connections)] for place in places])
    return difference.gather(2, near.expand(len(difference), -1, -1)).mean()


@pytest.mark.parametrize('noise', [1e-6, 1e-4, 1e-3, 1.0])
@pytest.mark.parametrize(
    ('own', 'other', 'size'), [(8, 8, 20), (8, 12, 20), (32, 48, 5)], ids=['difference', 'products', 'rows']
)
def test_all_pairs_in_every_form_are_exact(own, other, size, noise):
    """Value and gradient against float64, down to features that hardly differ."""
    student = logits(2, own, size, size + 1)
    teacher = noise * logits(2, other, size, size + 1, seed=1)
    teacher[:, :own] += student
    single, double = (student.to(dtype, copy=True).requires_grad_() for dtype in (torch.float32, torch.float64))

    value = pair_wise_similarity(single, teacher, (1, 1))
    wanted = plain_pair_wise(double, teacher.double())
    value.backward()
    wanted.backward()

    assert value.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert (single.grad - double.grad).norm() <= 1e-5 * double.grad.norm()


@pytest.mark.parametrize('connections', [1, 9, 13])
def test_near_pairs_are_exact(connections):
    single, double = (logits(2, 6, 5, 7).to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64))
    teacher = logits(2, 4, 5, 7, seed=1)

    value = pair_wise_similarity(single, teacher, (1, 1), connections=connections)
    wanted = plain_pair_wise(double, teacher.double(), connections)
    value.backward()
    wanted.backward()

    assert value.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-12)
    assert (single.grad - double.grad).norm() <= 1e-5 * double.grad.norm() + 1e-12


def test_chunks_do_not_change_all_pairs(monkeypatch):
    student, teacher = logits(1, 4, 9, 11).requires_grad_(), logits(1, 6, 9, 11, seed=1)
    whole = pair_wise_similarity(student, teacher, (1, 1))
    (gradient,) = torch.autograd.grad(whole, student)

    monkeypatch.setattr(_pair_wise, 'CHUNK', 7)
    monkeypatch.setattr(_pair_wise, 'BLOCK', 300)
    parts = pair_wise_similarity(student, teacher, (1, 1))

    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, student)[0], gradient)


@pytest.mark.parametrize('connections', [None, 1, 7])
@pytest.mark.parametrize('other', [3, 4])
def test_gradient_of_the_pairs(connections, other):
    student = logits(2, 3, 5, 6, dtype=torch.float64).requires_grad_()
    teacher = logits(2, other, 5, 6, seed=1, dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda maps: pair_wise_similarity(maps, teacher, (1, 1), connections=connections), student
    )
    assert torch.autograd.gradcheck(lambda maps: pair_wise_similarity(maps, teacher, pool='max'), student)


@pytest.mark.parametrize('connections', [None, 9])
def test_a_detached_norm_is_a_constant(connections):
    student = logits(1, 3, 4, 5, dtype=torch.float64).requires_grad_()
    teacher = logits(1, 5, 4, 5, seed=1, dtype=torch.float64)
    norm = student.norm(dim=1, keepdim=True).detach() + 1e-8
    lengths = student.detach().norm(dim=1, keepdim=True)

    options = dict(granularity=(1, 1), connections=connections)
    value = pair_wise_similarity(student, teacher, detach_norm=True, **options)
    wanted = plain_pair_wise(student, teacher, connections, norm)
    (gradient,), (slope,) = (torch.autograd.grad(loss, student) for loss in (value, wanted))

    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(gradient, slope)
    assert (gradient * student.detach()).sum(1).abs().max() > 1e-4  # the usual one has no part along the feature
    (usual,) = torch.autograd.grad(pair_wise_similarity(student, teacher, **options), student)
    assert (usual * student.detach() / lengths).sum(1).abs().max() < 1e-12


@pytest.mark.parametrize('connections', [None, 4])
@pytest.mark.parametrize('detach_norm', [False, True])
def test_features_of_zero_have_finite_gradients(connections, detach_norm):
    student = torch.zeros(1, 3, 4, 4, requires_grad=True)

    value = pair_wise_similarity(student, logits(1, 3, 4, 4), (1, 1), connections=connections, detach_norm=detach_norm)
    value.backward()

    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_all_pairs_of_a_large_map_fit_in_memory():
    """128x256 nodes: the matrix of their affinities would take 4 GiB for each side in float32."""
    student, teacher = logits(1, 16, 128, 256).requires_grad_(), logits(1, 24, 128, 256, seed=1)

    with LiveMemory() as memory:
        pair_wise_similarity(student, teacher, (1, 1)).backward()

    assert memory.peak < 30 * 2**20


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(pool='sum'), 'pool must be one of'),
        (dict(granularity=(0, 1)), 'at least 1 pixel'),
        (dict(pool_scale=1.5), r'pool_scale must lie in \(0, 1\]'),
        (dict(connections=0), 'connections must be at least 1'),
    ],
)
def test_bad_options_of_the_pairs(options, message):
    with pytest.raises(ValueError, match=message):
        pair_wise_similarity(STUDENT, TEACHER, **options)
    with pytest.raises(ValueError, match=message):
        PairWiseLoss(**options)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(granularity=(3, 3)), r'granularity \(3, 3\) does not fit a map of \(2, 2\)'),
        (dict(pool_scale=0.1), 'pool_scale 0.1.*does not fit a map'),
        (dict(granularity=(1, 1), connections=9), 'connections is 9, but the map has only 2x2 nodes'),
    ],
)
def test_maps_that_are_too_small_for_the_pairs(options, message):
    with pytest.raises(ValueError, match=message):
        pair_wise_similarity(STUDENT, TEACHER, **options)


def test_maps_of_unequal_size_are_not_paired():
    with pytest.raises(ValueError, match='differ in C only'):
        pair_wise_similarity(STUDENT, TEACHER[..., :1])


def test_the_pair_module_is_the_function():
    student, teacher = logits(1, 3, 8, 8), logits(1, 5, 8, 8, seed=1)
    options = dict(granularity=(1, 2), pool='max', connections=9, detach_norm=True)

    torch.testing.assert_close(
        PairWiseLoss(**options)(student, teacher), pair_wise_similarity(student, teacher, **options)
    )
