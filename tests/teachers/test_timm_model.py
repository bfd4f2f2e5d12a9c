"""Models of timm as teachers: maps, positions, sizes. Random weights, two blocks each."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kddense.connectors import match_size
from kddense.exchange import Batch, Question
from kddense.models.timm_features import TimmFeatures, timm_library
from kddense.registry import TEACHERS

from ..helpers import plugins, tiny

# Small in width and depth; the rest is as published. (channels, stride) of the last map.
SMALL = dict(embed_dim=32, depth=2, num_heads=2)
STAGES = dict(depths=(1, 1, 1, 1))
SHAPES = {
    'dinov2': ('vit_small_patch14_dinov2', SMALL, 32, 14),
    'dinov2 with registers': ('vit_small_patch14_reg4_dinov2', SMALL, 32, 14),
    'dinov3': ('vit_small_patch16_dinov3', SMALL, 32, 16),
    'c-radio': ('vit_base_patch16_radio_v3', SMALL, 32, 16),
    'siglip': ('vit_base_patch16_siglip_224', SMALL, 32, 16),
    'convnext': ('convnext_atto', dict(**STAGES, dims=(8, 16, 24, 32)), 32, 32),
    'swin': ('swin_tiny_patch4_window7_224', dict(**STAGES, embed_dim=12, num_heads=(1, 2, 2, 4)), 96, 32),
    'efficientnet-lite': ('tf_efficientnet_lite0', {}, 320, 32),
}
DINO = SHAPES['dinov2 with registers'][0]
STUDENT = tiny.segmentor('pspnet_r50-d8')
DATA = tiny.segmentation_data()


def teacher_of(kind='dinov2', **options):
    model, small, *_ = SHAPES[kind]
    return dict(type='kddense.TimmTeacher', model=model, options=small, **options)


def distiller(teacher, student=STUDENT, scope='mmseg', **options):
    hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1], loss=dict(type='kddense.CosineLoss'))
    config = dict(type='kddense.Distiller', student=student, teacher=teacher, objectives=dict(hint={**hint, **options}))
    return tiny.build(config, scope=scope)


def built(teacher):
    return distiller(teacher).teachers['teacher']


def blank(height, width):
    return Batch(torch.zeros(1, 3, height, width), tiny.segmentation_data((height, width), count=1)['data_samples'])


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('kind', list(SHAPES))
def test_a_student_learns_from_it(kind, precision):
    _, _, channels, stride = SHAPES[kind]
    build = lambda: distiller(teacher_of(kind, precision=precision), resize='teacher')  # noqa: E731
    model = build()
    answer = model.teachers['teacher'].answer(Question(frozenset({'backbone'})), blank(64, 96))
    (found,) = answer.taps['backbone']
    assert found.shape == (1, channels, -(-64 // stride), -(-96 // stride))
    assert found.dtype == torch.float32
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=build)


def test_detectors_learn_from_it_too():
    places = dict(tap='neck', levels=[1], teacher_tap='backbone', teacher_levels=[0])
    model = distiller(teacher_of('dinov3'), tiny.single_stage('retinanet'), 'mmdet', **places)
    assert 'neck.fpn_convs.1.conv.weight' in plugins.gradients(model, tiny.detection_data())


@pytest.mark.parametrize('kind', ['dinov2 with registers', 'dinov3', 'c-radio'])
def test_the_map_is_that_of_timms_own_tokens(kind):
    teacher = built(teacher_of(kind))
    images, _ = teacher.images.of(blank(56, 84))
    answer = teacher.answer(Question(frozenset({'backbone'})), blank(56, 84))
    tokens = teacher.model.backbone.model.forward_features(images)
    prefix = teacher.model.backbone.model.num_prefix_tokens
    stride = SHAPES[kind][3]
    expected = tokens[:, prefix:].transpose(1, 2).unflatten(2, [side // stride for side in images.shape[-2:]])
    assert prefix > 0
    size = (56 // 14, 84 // 14) if stride == 14 else (-(-56 // 16), -(-84 // 16))
    torch.testing.assert_close(answer.taps['backbone'][0], expected[:, :, : size[0], : size[1]])


def test_levels_are_blocks_or_stages_in_the_order_asked_for():
    images = torch.randn(1, 3, 64, 64)
    stages = TimmFeatures(SHAPES['convnext'][0], levels=[3, 0, -2], options=SHAPES['convnext'][1]).eval()
    assert [tuple(one.shape[1:]) for one in stages(images)] == [(32, 2, 2), (8, 16, 16), (24, 4, 4)]
    blocks = TimmFeatures(SHAPES['dinov3'][0], levels=[-1, 0], options=SHAPES['dinov3'][1], norm=False).eval()
    last, first = blocks(images)
    again = TimmFeatures(SHAPES['dinov3'][0], levels=[0], options=SHAPES['dinov3'][1], norm=False).eval()
    again.load_state_dict(blocks.state_dict())
    torch.testing.assert_close(again(images)[0], first)
    assert not torch.allclose(first, last)


def test_raw_tokens_at_a_block_are_maps_too():
    teacher = built(teacher_of('dinov2 with registers'))
    answer = teacher.answer(Question(frozenset({'backbone.model.blocks.0'})), blank(56, 56))
    assert answer.taps['backbone.model.blocks.0'].shape == (1, 32, 4, 4)


def test_images_are_normalised_as_timm_says():
    teacher = built(teacher_of('c-radio'))
    clip = dict(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
    assert teacher.image_format.mean == pytest.approx([255 * one for one in clip['mean']])
    assert teacher.image_format.std == pytest.approx([255 * one for one in clip['std']])
    assert teacher.image_format.reversed_channels
    assert (teacher.image_format.size_divisor, built(teacher_of('dinov2')).image_format.size_divisor) == (16, 14)


def test_position_embeddings_are_interpolated():
    """The same image at two sizes gives about the same map: a model that is trained knows where it looks."""
    teacher = built(teacher_of('dinov2'))
    with torch.no_grad():
        teacher.model.backbone.model.patch_embed.proj.weight.zero_()  # nothing but positions is left
        teacher.model.backbone.model.pos_embed.copy_(_waves(teacher.model.backbone.model.pos_embed.shape))
    small, large = (teacher.model.backbone(torch.zeros(1, 3, size, size))[0] for size in (14 * 8, 14 * 16))
    halved = nn.functional.avg_pool2d(large, 2)
    assert nn.functional.cosine_similarity(small, halved, dim=1).min() > 0.98


def _waves(shape):
    side = round((shape[1] - 1) ** 0.5)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    places = torch.stack([rows, columns], -1).view(-1, 2) / side
    waves = torch.cat([torch.sin(3 * places), torch.cos(3 * places)], 1)
    return torch.cat([torch.zeros(1, shape[2]), waves.repeat(1, shape[2] // 4)])[None]


@pytest.mark.parametrize('patch, student', [(14, (5, 9)), (16, (5, 9)), (14, (5, 5))])
def test_the_student_is_resized_to_the_places_of_the_teacher(patch, student):
    """65 pixels are 9 cells of stride 8 that reach to pixel 72, and 5 patches."""
    height, width = student
    own = (
        (torch.arange(width) * (8 if width == 9 else 16) + (4 if width == 9 else 8)).float().expand(1, 1, height, width)
    )
    teacher = torch.zeros(1, 1, 5, 5)
    resized, _ = match_size(own, teacher, 'student', image=(65, 65), patch=patch)
    middles = (torch.arange(5) * patch + patch / 2).clamp(float(own.min()), float(own.max()))
    torch.testing.assert_close(resized[0, 0, 0], middles)


def test_maps_that_end_at_one_pixel_are_resized_as_before():
    own, teacher = torch.randn(1, 2, 10, 8), torch.randn(1, 2, 5, 4)
    assert torch.equal(match_size(own, teacher, image=(80, 64))[0], match_size(own, teacher)[0])


@pytest.mark.parametrize('size', [(64, 64), (64, 96)])
def test_a_model_of_one_size_sees_stretched_images(size):
    small = dict(embed_dim=32, depth=2, num_heads=2)
    teacher = built(dict(type='kddense.TimmTeacher', model='beit_base_patch16_224', image_size=64, options=small))
    (found,) = teacher.answer(Question(frozenset({'backbone'})), blank(*size)).taps['backbone']
    assert found.shape == (1, 32, 4, 4)
    assert teacher.view.is_stretched
    assert teacher.images.of(blank(*size))[0].shape[-2:] == (64, 64)


FIXED = "'beit_base_patch16_224' takes images of 224x224, not of 64x{} .*: set image_size=224, and images are stretched"


def test_images_that_a_model_does_not_take_are_one_sentence():
    options = dict(type='kddense.TimmTeacher', model='beit_base_patch16_224', options=SMALL)
    with pytest.raises(ValueError, match=f'^objectives.hint: .* teacher.model: {FIXED.format(64)}'):
        built(options)
    with pytest.raises(ValueError, match=f'^teacher.model: {FIXED.format(96)}'):
        TEACHERS.build(options).answer(Question(frozenset({'backbone'})), blank(64, 96))


HIERA = dict(model='hiera_tiny_224', options=dict(embed_dim=16, stages=(1, 1, 1, 1)))


def test_a_model_without_a_last_norm_says_so():
    """The norm first, whatever the size; then the size; then it speaks."""
    build = lambda **options: TEACHERS.build(dict(type='kddense.TimmTeacher', **HIERA, **options))  # noqa: E731
    ask = lambda teacher: teacher.answer(Question(frozenset({'backbone'})), blank(96, 64)).taps['backbone']  # noqa: E731
    for size in ({}, dict(image_size=96)):
        with pytest.raises(ValueError, match=r"'hiera_tiny_224' gives no maps with its last norm .*: set norm=False$"):
            ask(build(**size))
    with pytest.raises(ValueError, match=r'takes images of 224x224, not of 96x64 .*: set image_size=224, and images'):
        ask(build(norm=False))
    assert ask(build(norm=False, image_size=96))[0].shape == (1, 128, 3, 3)


def test_names_of_hubs_and_folders_are_names(tmp_path):
    """What timm has on a hub it knows without asking there; a folder says itself what it holds."""
    name = f'{DINO}.lvd142m'
    assert (
        built({**teacher_of(), 'model': f'hf-hub:timm/{name}'}).model.backbone.model.pretrained_cfg['tag'] == 'lvd142m'
    )
    model = timm_library().create_model(name, num_classes=0, **SMALL)
    trained = dict(mean=[0.1] * 3, std=[0.2] * 3, input_size=[3, 518, 518])
    config = dict(architecture=DINO, num_classes=0, model_args=SMALL, pretrained_cfg=trained)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / 'model.safetensors')
    teacher = built(dict(type='kddense.TimmTeacher', model=f'local-dir:{tmp_path}', pretrained=True))
    by_timm = timm_library().create_model(f'local-dir:{tmp_path}', pretrained=True, num_classes=0).state_dict()
    loaded = teacher.model.backbone.model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in by_timm.items())
    assert torch.equal(loaded['blocks.1.mlp.fc1.weight'], model.blocks[1].mlp.fc1.weight)
    assert teacher.image_format.mean == pytest.approx([25.5] * 3)


def test_another_size_is_another_teacher():
    options = dict(type='kddense.TimmTeacher', model='beit_base_patch16_224', options=SMALL)
    one, other = (built(dict(options, image_size=size)) for size in (64, 128))
    assert one.identity()['teacher'] != other.identity()['teacher']


@pytest.mark.parametrize(
    'options, sentence',
    [
        (
            dict(model='vit_smal_patch14_dinov2'),
            "^teacher.model: timm has no model 'vit_smal_patch14_dinov2'; .*'vit_small_patch14_dinov2'",
        ),
        (
            dict(model=f'{DINO}.lvd141m'),
            f"^teacher.model: timm knows no weights 'lvd141m' of '{DINO}': they are lvd142m",
        ),
        (dict(levels=[2]), '^teacher.model: levels must name some of the 2 of .*, got .2.'),
        (dict(levels=[]), '^teacher.levels must be a list of whole numbers, and not empty'),
        (dict(options=dict(deep=3)), "^teacher.model: model .* cannot be built: .*'deep'"),
        (dict(image_size=[3, 4, 5]), '^teacher.image_size must be a height and a width'),
        (
            dict(image_size=57),
            '^teacher.image_size must be multiples of 14 pixels, .*, got 57: take 70 or 56$',
        ),
        (dict(**HIERA, image_size=100), '^teacher.image_size must be multiples of 32 .*, got 100: take 128 or 96$'),
        (dict(image_size=[28, 9]), '^teacher.image_size must be multiples of 14 pixels, .*, got 9: take 14$'),
        (dict(model=f'hf-hub:timm/{DINO}.lvd141m'), "^teacher.model: timm knows no weights 'lvd141m'"),
        (dict(model='local-dir:nowhere'), '^teacher.model: Config file not found: nowhere'),
        (
            dict(image_size=56, input_scale=2),
            '^teacher.image_size sets the size of the image: leave teacher.input_scale at 1',
        ),
        (
            dict(checkpoint='dino.pth', pretrained=True),
            '^teacher.pretrained: timm downloads weights and teacher.checkpoint',
        ),
        (dict(checkpoint='nowhere.pth'), '^teacher.checkpoint: checkpoint nowhere.pth does not exist'),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        built({**teacher_of('dinov2 with registers'), **options})


def test_without_timm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match=r"teacher.model: .*pip install 'kddense\[foundation\]'"):
        built(teacher_of())


def test_a_damaged_safetensors_file_is_one_sentence(tmp_path):
    (tmp_path / 'dino.safetensors').write_bytes(b'no header')
    with pytest.raises(ValueError, match='dino.safetensors is not a readable checkpoint'):
        built(teacher_of(checkpoint=str(tmp_path / 'dino.safetensors')))
