"""Published weights of timm's models: loaded as timm loads them, heads left out. Random weights, two blocks each."""

import re

import pytest
import torch
from safetensors.torch import save_file

from kddense.models.timm_features import TimmFeatures, timm_library
from kddense.registry import TEACHERS

from .test_timm_model import DINO, SHAPES, SMALL, built, teacher_of

HEADS = ('head', 'attn_pool', 'classifier')

MODELS = {
    **{kind: shape[:2] for kind, shape in SHAPES.items()},
    'deit 3': ('deit3_small_patch16_224', SMALL),
    'flexivit': ('flexivit_small', SMALL),
    'convnext v2': ('convnextv2_atto.fcmae', SHAPES['convnext'][1]),
}


def as_timm(weights):
    return weights


def with_head(weights):
    return {**weights, 'head.weight': torch.ones(7, 32), 'head.bias': torch.ones(7)}


def of_dinov2(weights):
    names = {'reg_token': 'register_tokens'}
    places = torch.cat([weights['cls_token'] * 0, weights['pos_embed']], 1)
    return {**renamed(weights, names), 'mask_token': torch.zeros(1, 32), 'pos_embed': places}


def of_dinov3(weights):
    names = {'reg_token': 'storage_tokens', r'\.gamma_(\d)': r'.ls\1.gamma'}
    extra = {'mask_token': torch.zeros(1, 32), 'rope_embed.periods': torch.ones(8)}
    extra |= {f'blocks.{block}.attn.qkv.bias': torch.zeros(96) for block in range(2)}
    return {**renamed(weights, names), **extra}


def of_radio(weights):
    """Positions are of 128 x 128 places, whatever the image: timm resamples them without anti-aliasing."""
    before = 'radio_model.model.'
    places = torch.randn(1, 128 * 128, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.cat([weights['cls_token'], weights['reg_token']], 1)[0]
    patches = {'embedder.weight': weights['patch_embed.proj.weight'].flatten(1)}
    patches |= {'pos_embed': places, 'cls_token.token': tokens}
    return {
        'radio_model.input_conditioner.norm_mean': torch.zeros(3, 1, 1),
        **{f'{before}patch_generator.{key}': value for key, value in patches.items()},
        **{f'{before}{key}': value for key, value in weights.items() if key.startswith('blocks.')},
    }


def of_convnext(weights):
    names = {
        r'stem\.': 'downsample_layers.0.',
        r'stages\.(\d+)\.downsample': r'downsample_layers.\1',
        r'stages\.(\d+)\.blocks': r'stages.\1',
        'conv_dw': 'dwconv',
        r'mlp\.fc': 'pwconv',
        r'head\.norm': 'norm',
    }
    return {**renamed(weights, names), 'head.weight': torch.ones(7, 32), 'head.bias': torch.ones(7)}


def of_swin(weights):
    earlier = {f'layers.{layer}.downsample': f'layers.{layer - 1}.downsample' for layer in (1, 2, 3)}
    masks = {'layers.0.blocks.0.attn_mask': torch.zeros(64, 49, 49)}
    return {**renamed(weights, earlier), **masks, 'head.weight': torch.ones(7, 96), 'head.bias': torch.ones(7)}


def of_deit3(weights):
    return renamed(weights, {r'ls(\d)\.gamma': r'gamma_\1'})


def without_head(weights):
    return {key: value for key, value in weights.items() if not key.startswith(('head', 'attn_pool'))}


def renamed(weights, names):
    """Return weights under other names; the first expression that a name holds is replaced."""
    out = {}
    for key, value in weights.items():
        pattern = next((one for one in names if re.search(one, key)), None)
        out[re.sub(pattern, names[pattern], key) if pattern else key] = value
    return out


FORMS = {  # of which kind, how the file names weights, how many classes it was trained on
    'dinov2': ('dinov2 with registers', as_timm, 0),
    'dinov2 with a head': ('dinov2 with registers', with_head, 7),
    'dinov2 of DDP': ('dinov2 with registers', lambda weights: {f'module.{key}': weights[key] for key in weights}, 0),
    "dinov2, authors'": ('dinov2 with registers', of_dinov2, 0),
    'dinov3': ('dinov3', as_timm, 0),
    "dinov3, authors'": ('dinov3', of_dinov3, 0),
    'c-radio': ('c-radio', as_timm, 0),
    "c-radio, authors'": ('c-radio', of_radio, 0),
    'convnext': ('convnext', as_timm, 0),
    "convnext, authors'": ('convnext', of_convnext, 7),
    'convnext v2 without a head': ('convnext v2', without_head, 7),
    'swin': ('swin', as_timm, 0),
    "swin, authors'": ('swin', of_swin, 7),
    'siglip without a head': ('siglip', without_head, 7),
    "deit 3, authors'": ('deit 3', of_deit3, 0),
    'flexivit': ('flexivit', as_timm, 0),
    'efficientnet-lite': ('efficientnet-lite', as_timm, 0),
}


def saved(weights, file, container=None):
    """Write weights as their authors do; files of safetensors hold no containers."""
    if file.suffix == '.pth':
        torch.save({container: weights} if container else weights, file)
    else:
        save_file({key: value.clone().contiguous() for key, value in weights.items()}, file)
    return str(file)


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize('form', FORMS)
def test_published_weights_load_as_timm_loads_them(tmp_path, form, suffix):
    kind, named, classes = FORMS[form]
    name, small = MODELS[kind]
    trained = timm_library().create_model(name, num_classes=0, **small)
    container = 'model' if 'authors' in form else None
    file = saved(named(dict(trained.state_dict())), tmp_path / f'weights.{suffix}', container)
    # Of another size than the file's, so that positions are resampled.
    options = {**small, **(dict(img_size=192) if kind == 'flexivit' else {})}
    source = dict(file=file, num_classes=classes)
    by_timm = timm_library().create_model(
        name, pretrained=True, pretrained_cfg_overlay=source, num_classes=0, **options
    )
    teacher = TEACHERS.build(dict(type='kddense.TimmTeacher', model=name, options=options, checkpoint=file))
    loaded, expected = teacher.model.backbone.model.state_dict(), by_timm.state_dict()
    maps = [key for key in expected if not key.startswith(HEADS)]
    assert maps
    assert [key for key in maps if not torch.equal(loaded[key], expected[key])] == []
    assert not any(loaded[key].any() for key in expected.keys() - set(maps))


def test_what_gives_no_maps_is_left_out_and_said(tmp_path, monkeypatch):
    """Of the file a head of 7 classes and a decoder; of the model the pooling, which the file lacks."""
    _, small = MODELS['siglip']
    own = TimmFeatures(MODELS['siglip'][0], options=small)
    weights = {
        **without_head(own.model.state_dict()),
        'decoder.weight': torch.ones(2),
        'head.weight': torch.ones(7, 32),
    }
    pooling = [key for key in own.model.state_dict() if key.startswith('attn_pool')]
    assert pooling
    assert own.take(weights) == sorted([*pooling, 'decoder.weight', 'head.weight'])
    said = []
    monkeypatch.setattr('kddense.teachers.timm_model.print_log', lambda text, **_: said.append(text))
    built(teacher_of('siglip', checkpoint=saved(weights, tmp_path / 'siglip.pth')))
    count = len(pooling) + 2
    assert said == [f'teacher.checkpoint: left out attn_pool, decoder, head ({count} keys), which give no maps']


@pytest.mark.parametrize(
    'change, sentence',
    [
        (
            lambda state: state.pop('norm.weight'),
            r'does not fit vit_small_patch14_reg4_dinov2: 1 keys .*missing \(norm.weight\)',
        ),
        (lambda state: state.update({'norm.weight': torch.ones(3)}), r'1 keys .* of another shape \(norm.weight\)'),
        (lambda state: state.update({'blocks.2.norm1.weight': torch.ones(32)}), r'too many \(blocks.2.norm1.weight\)'),
        (lambda state: state.update({'norm.weight': torch.full((32,), torch.nan)}), 'holds NaN'),
        (lambda state: state.clear(), 'missing'),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(tmp_path, change, sentence):
    state = dict(TimmFeatures(DINO, options=SMALL).model.state_dict())
    change(state)
    torch.save(state, tmp_path / 'dino.pth')
    with pytest.raises(ValueError, match=f'^teacher.checkpoint.*{sentence}'):
        built(teacher_of('dinov2 with registers', checkpoint=str(tmp_path / 'dino.pth')))
