"""The discriminator: its five convolutions, sizes, condition, attention, spectral norm, precision, copies."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kddense.losses.adversarial import adversarial_loss, gradient_penalty, wasserstein_discriminator_loss
from kddense.models.discriminator import Discriminator, SelfAttention
from kddense.registry import MODELS


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(seed=0, **options):
    """A narrow discriminator of maps with two channels, unconditional unless told otherwise."""
    torch.manual_seed(seed)
    return Discriminator(2, **{'condition_channels': 0, 'channels': 4, **options})


def attentive(discriminator):
    """Let the attention modules act, which they do not at first."""
    for module in discriminator.modules():
        if isinstance(module, SelfAttention):
            nn.init.constant_(module.gamma, 0.7)
    return discriminator


def convolutions(discriminator):
    """The four convolutions under spectral normalisation."""
    return [module for module in discriminator.modules() if hasattr(module, 'parametrizations')]


def autocast_is_on():
    return (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16


def buffers_of(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def test_at_65_it_is_five_convolutions_none_of_them_padded_at_the_end():
    discriminator = small(condition_channels=3).eval()
    maps, images = torch.randn(2, 2, 65, 65), torch.randn(2, 3, 513, 513)

    expected = torch.cat([maps, F.interpolate(images, (65, 65), mode='bilinear', align_corners=False)], dim=1)
    sides, widths = [], []
    for layer in convolutions(discriminator):
        expected = F.conv2d(expected, layer.weight, layer.bias, stride=2, padding=1)
        expected = torch.where(expected > 0, expected, 0.1 * expected)
        sides.append(expected.shape[-1])
        widths.append(expected.shape[1])
    expected = F.conv2d(expected, discriminator.score.weight, discriminator.score.bias)

    assert sides == [32, 16, 8, 4]
    assert widths == [4, 8, 16, 32]
    assert expected.shape == (2, 1, 1, 1)
    torch.testing.assert_close(discriminator(maps, images), expected.flatten())


def test_larger_maps_are_scored_by_the_mean_of_all_places():
    discriminator = small(attention=False).eval()
    maps = torch.randn(1, 2, 96, 80)

    places = discriminator.score(discriminator.blocks(maps))

    assert places.shape == (1, 1, 3, 2)
    torch.testing.assert_close(discriminator(maps), places.mean().reshape(1))


@pytest.mark.parametrize(
    'height, width', [(16, 16), (17, 16), (16, 130), (31, 47), (33, 64), (63, 65), (97, 40), (130, 129)]
)
def test_any_size_from_16_up_is_scored_and_trains_every_parameter(height, width):
    discriminator = attentive(small())

    scores = discriminator(torch.randn(3, 2, height, width))
    scores.square().sum().backward()

    assert scores.shape == (3,)
    assert scores.isfinite().all()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    assert all(layer.parametrizations.weight.original.grad.any() for layer in convolutions(discriminator))


def test_small_maps_are_padded_around_their_middle():
    discriminator = small(attention=False).eval()
    maps = torch.randn(1, 2, 32, 50)  # 2 x 3 before the last convolution

    padded = torch.zeros(1, 32, 4, 4)
    padded[:, :, 1:3, :3] = discriminator.blocks(maps)

    torch.testing.assert_close(discriminator(maps), discriminator.score(padded).flatten())


@pytest.mark.parametrize('height, width', [(15, 64), (64, 15), (8, 8)])
def test_maps_that_are_too_small_are_refused(height, width):
    message = rf'at least 16 x 16, got {height} x {width}; train on larger crops, or .* a smaller output stride'
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(1, 2, height, width))


def test_least_size_is_the_least():
    discriminator = small()
    assert Discriminator.least_size == 16
    with pytest.raises(RuntimeError):
        discriminator.blocks(torch.zeros(1, 2, 15, 15))


def test_the_condition_counts():
    discriminator = small(condition_channels=3).eval()
    maps, images = torch.randn(2, 2, 20, 24), torch.randn(2, 3, 80, 96)

    scores = discriminator(maps, images)

    torch.testing.assert_close(scores, discriminator(maps, F.interpolate(images, scale_factor=0.25, mode='bilinear')))
    assert (scores != discriminator(maps, images.flip(3))).all()


def test_bad_shapes_are_named():
    conditional, unconditional = small(condition_channels=3), small()
    maps, images = torch.zeros(2, 2, 16, 16), torch.zeros(2, 3, 64, 64)
    with pytest.raises(ValueError, match=r'must be images of shape \(2, 3, H, W\); .* condition_channels=0'):
        conditional(maps)
    with pytest.raises(ValueError, match='condition must be None for a discriminator built with condition_channels=0'):
        unconditional(maps, images)
    with pytest.raises(ValueError, match=r'condition must have shape \(2, 3, H, W\), got \(1, 3, 64, 64\)'):
        conditional(maps, images[:1])
    with pytest.raises(ValueError, match=r'condition must have shape \(2, 3, H, W\), got \(2, 1, 64, 64\)'):
        conditional(maps, images[:, :1])
    with pytest.raises(ValueError, match=r'maps must have shape \(N, 2, h, w\), got \(2, 3, 64, 64\)'):
        unconditional(images)
    with pytest.raises(ValueError, match=r'maps must have shape \(N, 2, h, w\), got \(2, 16, 16\)'):
        unconditional(maps[0])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match='in_channels and channels must be at least 1, got 0 and 64'):
        Discriminator(0)
    with pytest.raises(ValueError, match='in_channels and channels must be at least 1, got 2 and 0'):
        Discriminator(2, channels=0)
    with pytest.raises(ValueError, match='condition_channels must be at least 0, got -1'):
        Discriminator(2, condition_channels=-1)


def test_it_is_built_from_a_config():
    discriminator = MODELS.build(dict(type='kddense.Discriminator', in_channels=19))

    assert isinstance(discriminator, Discriminator)
    assert [layer.in_channels for layer in convolutions(discriminator)] == [22, 64, 128, 256]
    assert discriminator.score.in_channels == 512


def test_attention_starts_as_the_identity_and_can_learn():
    attention = SelfAttention(16)
    maps = torch.randn(2, 16, 3, 5)

    attended = attention(maps)
    attended.square().sum().backward()

    assert torch.equal(attended, maps)
    assert attention.gamma.grad.any()


def test_attention_agrees_with_a_loop_over_positions():
    torch.manual_seed(0)
    attention = SelfAttention(16)
    nn.init.constant_(attention.gamma, 0.7)
    maps = torch.randn(2, 16, 3, 5)
    query, key, value = (convolve(maps).flatten(2) for convolve in (attention.query, attention.key, attention.value))
    assert query.shape[1] == key.shape[1] == 2

    expected = maps.clone().flatten(2)
    for n in range(2):
        for i in range(15):
            weights = torch.stack([query[n, :, i] @ key[n, :, j] for j in range(15)]).softmax(0)
            expected[n, :, i] += 0.7 * sum(weights[j] * value[n, :, j] for j in range(15))

    torch.testing.assert_close(attention(maps), expected.view_as(maps))


def test_attention_comes_after_the_third_and_the_fourth_convolution():
    def kinds(discriminator):
        return [type(block) for block in discriminator.blocks]

    block, attention, nothing = nn.Sequential, SelfAttention, nn.Identity
    assert kinds(small()) == [block, block, block, attention, block, attention]
    assert kinds(small(attention=False)) == [block, block, block, nothing, block, nothing]
    assert [m.value.in_channels for m in small().modules() if isinstance(m, attention)] == [16, 32]


def test_spectral_norms_come_to_one():
    discriminator = small()
    with torch.no_grad():
        for layer in convolutions(discriminator):
            layer.parametrizations.weight.original.mul_(20)
        for _ in range(30):
            discriminator(torch.zeros(1, 2, 16, 16))
    discriminator.eval()

    norms = torch.stack([torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in convolutions(discriminator)])

    torch.testing.assert_close(norms, torch.ones(4), atol=0.02, rtol=0)


def test_evaluation_leaves_the_buffers_alone_and_training_does_not():
    discriminator = small(input_norm=True)
    before = buffers_of(discriminator)
    maps = torch.randn(2, 2, 16, 16)

    discriminator.eval()(maps)
    assert all(torch.equal(buffer, before[name]) for name, buffer in discriminator.named_buffers())

    discriminator.train()(maps)
    assert not any(torch.equal(buffer, before[name]) for name, buffer in discriminator.named_buffers())


def test_no_pass_draws_a_random_number():
    discriminator = attentive(small(input_norm=True))
    before = torch.get_rng_state()

    discriminator(torch.zeros(2, 2, 16, 16)).sum().backward()

    assert torch.equal(torch.get_rng_state(), before)


def test_input_norm_normalises_maps_and_condition_and_couples_samples():
    maps, images = torch.randn(4, 2, 16, 16), torch.randn(4, 3, 16, 16)
    for input_norm in (False, True):
        discriminator = small(condition_channels=3, input_norm=input_norm)
        for layer in convolutions(discriminator):
            layer.eval()  # the same weights in each pass
            layer.parametrizations.eval()
        scores = discriminator(maps, images)

        rescaled = discriminator(100 * maps + 7, images * 3)
        assert torch.allclose(scores, rescaled, atol=1e-4) == input_norm
        alone = discriminator(maps[:2], images[:2])
        assert torch.allclose(scores[:2], alone, atol=1e-6) != input_norm


def test_first_and_second_derivatives_are_exact():
    discriminator = attentive(small(channels=2)).double().eval()
    maps = torch.randn(1, 2, 16, 16, dtype=torch.float64, requires_grad=True)

    assert discriminator(maps).dtype == torch.float64
    assert torch.autograd.gradcheck(discriminator, maps, fast_mode=True)
    assert torch.autograd.gradgradcheck(discriminator, maps, fast_mode=True)


def test_a_gradient_penalty_trains_every_weight():
    discriminator = attentive(small(condition_channels=3))
    student, teacher = torch.randn(2, 2, 2, 32, 40)  # 2 x 2 at the last attention: a lone position has no choice
    images = torch.randn(2, 3, 64, 80)

    gradient_penalty(lambda maps: discriminator(maps, images), student, teacher).backward()

    weights = {name: p for name, p in discriminator.named_parameters() if not name.endswith('bias')}
    assert len(weights) == 4 + 2 * 4 + 1
    assert all(weight.grad.any() and weight.grad.isfinite().all() for weight in weights.values())


def test_one_backward_pass_gives_the_gradients_of_alternating_updates():
    """Several passes come before the backward pass, each of which moves the power iteration's vectors."""
    student = torch.randn(2, 2, 16, 16, requires_grad=True)
    teacher, mix = torch.randn(2, 2, 16, 16), torch.tensor([0.3, 0.6])
    together, apart = (attentive(small()) for _ in range(2))

    def student_term(discriminator):
        discriminator.requires_grad_(False)
        loss = adversarial_loss(discriminator(student))
        discriminator.requires_grad_(True)
        return loss

    def discriminator_term(discriminator):
        loss = wasserstein_discriminator_loss(discriminator(student.detach()), discriminator(teacher))
        return loss + 10 * gradient_penalty(discriminator, student, teacher, mix)

    (student_term(together) + discriminator_term(together)).backward()
    gradient, student.grad = student.grad, None
    student_term(apart).backward()
    assert all(parameter.grad is None for parameter in apart.parameters())
    torch.testing.assert_close(student.grad, gradient)
    discriminator_term(apart).backward()

    torch.testing.assert_close(student.grad, gradient)
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_it_runs_under_autocast_and_takes_its_softmax_in_float32(monkeypatch):
    discriminator = attentive(small(condition_channels=3)).eval()
    maps, images = torch.randn(2, 2, 32, 32).bfloat16(), torch.randn(2, 3, 64, 64)
    expected = discriminator(maps, images)
    taken = []
    softmax = torch.Tensor.softmax

    def spy(tensor, dim):
        taken.append((tensor.dtype, autocast_is_on()))
        return softmax(tensor, dim)

    monkeypatch.setattr(torch.Tensor, 'softmax', spy)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        scores = discriminator(maps, images)

    assert expected.dtype == scores.dtype == torch.float32
    assert taken == [(torch.float32, False)] * 2
    assert not torch.equal(scores, expected)  # the convolutions are in bfloat16
    torch.testing.assert_close(scores, expected, atol=0.02, rtol=0.02)


def test_weights_are_normalised_outside_autocast(monkeypatch):
    """``vdot`` refuses a float32 and a half-precision vector, which is what autocast on a GPU would hand it."""
    enabled = []

    def spied(dot):
        def spy(*vectors):
            enabled.append(autocast_is_on())
            return dot(*vectors)

        return spy

    discriminator = small()
    for name in ('dot', 'vdot'):  # older PyTorch takes the former
        monkeypatch.setattr(torch, name, spied(getattr(torch, name)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        discriminator(torch.zeros(1, 2, 16, 16))

    assert enabled == [False] * 4


def test_memory_format_does_not_matter():
    discriminator = attentive(small()).eval()
    maps = torch.randn(2, 2, 33, 40)
    expected = discriminator(maps)

    discriminator.to(memory_format=torch.channels_last)
    scores = discriminator(maps.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(scores, expected)


def test_a_copy_is_whole_and_apart():
    discriminator = attentive(small(input_norm=True))
    maps = torch.randn(2, 2, 16, 16)
    discriminator(maps).sum().backward()
    twin = copy.deepcopy(discriminator)

    assert torch.equal(twin(maps), discriminator(maps))
    before = buffers_of(twin)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.zero_()
    discriminator(maps)
    assert all(torch.equal(buffer, before[name]) for name, buffer in twin.named_buffers())
    assert all(parameter.any() for parameter in twin.parameters() if parameter.ndim > 1)


def test_its_state_is_restored_exactly():
    source, target = attentive(small(seed=0, input_norm=True)), small(seed=1, input_norm=True)
    maps = torch.randn(2, 2, 16, 16)
    source(maps)

    target.load_state_dict(source.state_dict())

    for _ in range(2):  # the power iteration goes on from where it was
        assert torch.equal(target(maps), source(maps))
