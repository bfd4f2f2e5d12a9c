"""Models of kinds that people reported: served with right numbers, or refused at build in one sentence."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict

from ..helpers import plugins, tiny

PSP = tiny.segmentor('pspnet_r50-d8')
HINT = dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1])
PIXEL = dict(type='kddense.PixelWiseObjective')


def segmentation(teacher=PSP, objective=PIXEL, student=PSP, **options):
    return tiny.distiller(student, tiny.teacher_of(teacher, 'mmseg', **options), dict(x=objective), 'mmseg')


def test_images_may_have_any_number_of_channels():
    four = {
        'data_preprocessor.type': tiny.preprocessor_of_many_channels(),
        'data_preprocessor.mean': [110.0] * 4,
        'data_preprocessor.std': [60.0] * 4,
        'data_preprocessor.bgr_to_rgb': False,
    }
    student, teacher = (
        tiny.segmentor('pspnet_r50-d8', {'backbone.in_channels': 4, **four}, width=width) for width in (8, 16)
    )
    data = tiny.segmentation_data()
    data['inputs'] = [torch.cat([image, image[:1]]) for image in data['inputs']]
    for objective in (HINT, PIXEL):
        for precision in ('fp32', 'bf16'):
            assert plugins.gradients(segmentation(teacher, objective, student, precision=precision), data)


def test_a_backbone_that_takes_one_image_size_is_probed_with_it():
    beit = copy.deepcopy(PSP)
    beit.backbone = ConfigDict(
        type='BEiT',
        img_size=(96, 96),
        patch_size=16,
        embed_dims=32,
        num_layers=2,
        num_heads=2,
        mlp_ratio=2,
        out_indices=(1,),
        qv_bias=True,
        init_values=0.1,
        norm_eval=False,
    )
    beit.decode_head.update(in_channels=32, in_index=0)
    beit.auxiliary_head = None
    for objective in (HINT, PIXEL):
        assert plugins.gradients(segmentation(beit, objective), tiny.segmentation_data(size=(96, 96)))


def test_a_cross_entropy_beside_another_loss_says_how_classes_are_decided():
    entropy = dict(type='CrossEntropyLoss', use_sigmoid=False)
    dice = dict(type='DiceLoss', loss_weight=3.0)
    both = [dict(entropy, loss_name='loss_ce'), dict(dice, loss_name='loss_dice')]
    for losses in (entropy, both, both[::-1]):
        student = copy.deepcopy(PSP)
        student.decode_head.loss_decode = losses
        assert segmentation(student=student).objectives['x'].loss.classes == 'softmax'


def test_a_teacher_that_draws_random_numbers_draws_the_same_and_none_of_the_students():
    ham = tiny.edit(
        PSP,
        {
            'decode_head': dict(
                _delete_=True,
                type='LightHamHead',
                in_channels=[32, 64],
                in_index=[2, 3],
                channels=16,
                ham_channels=16,
                num_classes=5,
                norm_cfg=dict(type='GN', num_groups=4),
                align_corners=False,
                ham_kwargs=dict(MD_R=4),
            )
        },
    )
    student = tiny.segmentor('pspnet_r50-d8', {'decode_head.dropout_ratio': 0.0, 'auxiliary_head.dropout_ratio': 0.0})
    model, data = segmentation(ham, student=student), tiny.segmentation_data()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = (float(tiny.step(model, data)['distill.x.loss']) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)


def with_fpn(path, *changes):
    layers, channels = tiny.backbone()
    head = {'rpn_head.in_channels': 16, 'rpn_head.feat_channels': 16, 'roi_head.bbox_roi_extractor.out_channels': 16}
    config = tiny.edit(tiny._stock(f'mmdet::{path}.py'), head, *changes)
    config.backbone = ConfigDict(layers)
    if isinstance(config.neck, list):
        config.neck[0].update(in_channels=channels, out_channels=16)
        config.neck[1].update(in_channels=16)
    else:
        config.neck.update(in_channels=channels, out_channels=16)
    return config


BOX = {f'roi_head.bbox_head.{key}': one for key, one in dict(in_channels=16, fc_out_channels=16, num_classes=3).items()}
SERVED = {
    'libra': ('libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco', BOX),
    'double heads': (
        'double_heads/dh-faster-rcnn_r50_fpn_1x_coco',
        {**BOX, 'roi_head.bbox_head.conv_out_channels': 16},
    ),
    'hard examples': ('faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco', BOX),
}
REFUSED = {
    'dynamic': ('dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco', BOX, 'DynamicRoIHead, which changes its box coder'),
    'pisa': ('pisa/faster-rcnn_r50_fpn_pisa_1x_coco', BOX, 'PISARoIHead, which weights its samples'),
    'grid': (
        'grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco',
        {},
        'must be a BBoxHead with softmax classes and box regression',
    ),
    'sigmoid': (
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
        {**BOX, 'roi_head.bbox_head.loss_cls.use_sigmoid': True},
        'bbox_head.loss_cls decides each class on its own, by a sigmoid: .*use_sigmoid=False',
    ),
    'sabl': ('sabl/sabl-faster-rcnn_r50_fpn_1x_coco', {}, 'must be a BBoxHead .*, found SABLHead'),
}
CHEN = dict(rpn=dict(type='kddense.ChenRPNObjective'), roi=dict(type='kddense.ChenRoIObjective'))


@pytest.mark.parametrize('name', list(SERVED))
def test_roi_heads_built_of_plain_ones_are_served(name):
    path, changes = SERVED[name]
    config = with_fpn(path, changes)
    model = tiny.distiller(config, config, CHEN)
    found = plugins.gradients(model, tiny.detection_data())
    assert any(key.startswith('roi_head.bbox_head') for key in found)


@pytest.mark.parametrize('name', list(REFUSED))
def test_other_roi_heads_are_refused_at_build(name):
    path, changes, reason = REFUSED[name]
    config = with_fpn(path, changes)
    with pytest.raises(ValueError, match=f'objectives.roi: student.roi_head.*{reason}'):
        tiny.distiller(config, config, CHEN)


def test_a_compiled_distiller_has_the_losses_and_gradients_of_one_that_is_not():
    quiet = {'decode_head.dropout_ratio': 0.0, 'auxiliary_head.dropout_ratio': 0.0}
    found = []
    for compiled in (False, True):
        model = tiny.distiller(tiny.edit(PSP, quiet), PSP, dict(pixel=PIXEL, hint=HINT), 'mmseg')
        if compiled:
            model.forward = torch.compile(model.forward, backend='eager')  # as mmengine's runner does
        for _ in range(2):
            model.zero_grad()
            losses = tiny.step(model, tiny.segmentation_data())
            tiny.total(losses).backward()
        found.append((losses, model.student.backbone.stem[0].weight.grad))
    for key, value in found[0][0].items():
        assert torch.equal(value, found[1][0][key]), key
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize('tap', ['backbone', 'backbone.layer3', 'backbone.layer3.0.conv2'])
def test_checkpointed_blocks_show_what_they_would_without(tap):
    found = []
    for with_cp in (False, True):
        student = tiny.segmentor('pspnet_r50-d8', {'backbone.with_cp': with_cp})
        model = tiny.distiller(student, PSP, dict(x=dict(HINT, tap=tap)), 'mmseg')
        gradients = plugins.gradients(model, tiny.segmentation_data())
        found.append(gradients)
        block = model.student.backbone.layer3[0]
        assert block.with_cp is with_cp, 'as it was'
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-4, atol=1e-7)


def weights_in_files(weights):
    average = {f'module.{key}': value for key, value in weights.items()} | dict(steps=torch.tensor(3))
    return dict(
        plain=dict(state_dict=weights),
        parallel=dict(state_dict={f'module.{key}': value for key, value in weights.items()}),
        compiled=dict(state_dict={f'_orig_mod.{key}': value for key, value in weights.items()}),
        razor=dict(
            state_dict={f'{part}.{key}': one for part in ('architecture', 'teacher') for key, one in weights.items()}
        ),
        average=dict(ema_state_dict=average),
        published=dict(meta=dict(CLASSES=tuple('abcde')), model=weights),
        distilled=dict(state_dict={f'student.{key}': value for key, value in weights.items()}),
    )


@pytest.mark.parametrize('name', ['plain', 'parallel', 'compiled', 'razor', 'average', 'published', 'distilled'])
def test_weights_are_found_whatever_wraps_them(name, tmp_path):
    weights = dict(tiny.build(PSP, scope='mmseg', seed=3).state_dict())
    torch.save(weights_in_files(weights)[name], tmp_path / 'teacher.pth')
    teacher = tiny.teacher_of(PSP, 'mmseg') | dict(checkpoint=str(tmp_path / 'teacher.pth'))
    model = tiny.build(dict(type='kddense.Distiller', student=PSP, teacher=teacher, objectives={}), scope='mmseg')
    loaded = model.teachers['teacher'].model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in weights.items())
