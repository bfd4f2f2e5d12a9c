"""FGD: the values of its terms, the boxes of the batch, what is refused."""

import pytest
import torch

from kddense.losses import FGDLoss, focal_masks

from ..helpers import detectors, plugins, tiny

STUDENT, TEACHER = tiny.single_stage('retinanet'), tiny.single_stage('retinanet', width=16, fpn=24)
DATA = tiny.detection_data()
TERMS = ('foreground', 'background', 'attention', 'relation')


def build(student=STUDENT, teacher=TEACHER, scope='mmdet', **options):
    return tiny.distiller(student, teacher, dict(fgd=dict(type='kddense.FGDObjective', **options)), scope)


def terms(losses):
    return {name: float(losses[f'distill.fgd.loss_{name}']) for name in TERMS}


def heard(model, data=DATA):
    """Run a step; return its losses, and what the objective was given."""
    given = []
    hook = model.objectives['fgd'].register_forward_pre_hook(lambda module, args: given.append(args))
    losses = tiny.step(model, data)
    hook.remove()
    return losses, *given[0]


def test_values_of_the_terms():
    """With blocks that add nothing yet, relations are the squared differences themselves."""
    model = build(levels=[0, 2], foreground=2.0, background=3.0, attention=5.0, relation=7.0)
    objective = model.objectives['fgd']
    losses, seen, taught = heard(model)
    expected = dict.fromkeys(TERMS, 0.0)
    boxes = [sample.gt_instances.bboxes for sample in DATA['data_samples']]
    for layer, level in zip(objective.connectors, (0, 2), strict=True):
        own, other = layer(seen.taps['neck'][level]), taught.taps['neck'][level]
        masks = focal_masks(boxes, [(64, 64)] * 2, tuple(other.shape[2:]))
        values = (*FGDLoss()(own, other, *masks), (own - other).square().sum() / 2)
        for (name, weight), value in zip(zip(TERMS, (2, 3, 5, 7), strict=True), values, strict=True):
            expected[name] += weight * float(value) / 2
    assert terms(losses) == pytest.approx(expected, rel=1e-5)


def test_both_blocks_learn():
    model = build()
    tiny.total(tiny.step(model, DATA)).backward()
    assert [name for name, one in model.objectives['fgd'].named_parameters() if one.grad is None] == []
    last = [blocks[side].channel_add_conv[-1].weight for blocks in model.objectives['fgd'].blocks for side in (0, 1)]
    assert all(weight.grad.any() for weight in last)


def test_it_counts_the_boxes_of_this_batch():
    model = build(tiny.faster_rcnn(), tiny.faster_rcnn(width=16, fpn=32))
    whole = terms(tiny.step(model, DATA))
    few = terms(tiny.step(model, tiny.detection_data(boxes=(tiny.BOXES[:1], ()))))
    assert few['foreground'] != whole['foreground']
    none = terms(tiny.step(model, tiny.detection_data(boxes=((), ()))))
    assert none['foreground'] == 0
    assert none['background'] > 0


def test_where_boxes_of_a_padded_image_lie():
    """In a batch of one image of 48x60, padded to 64x64: the authors' code stretches its boxes."""
    data = tiny.detection_data(sizes=((48, 60),), boxes=(tiny.BOXES,))
    values = {mode: terms(tiny.step(build(mode=mode), data)) for mode in ('paper', 'code')}
    assert values['paper']['foreground'] != values['code']['foreground']
    model = build(mode='code', levels=[0], foreground=1.0)
    losses, seen, taught = heard(model, data)
    own, other = model.objectives['fgd'].connectors[0](seen.taps['neck'][0]), taught.taps['neck'][0]
    masks = focal_masks([torch.tensor(tiny.BOXES)], [(48, 60)], tuple(other.shape[2:]))
    assert terms(losses)['foreground'] == pytest.approx(float(FGDLoss()(own, other, *masks)[0]), rel=1e-5)


@pytest.mark.parametrize('head', detectors.HEADS)
def test_a_pyramid_of_any_head_serves(head):
    model = build(detectors.one_stage(head), detectors.one_stage(head, width=12, fpn=24))
    assert any(name.startswith('backbone') for name in plugins.gradients(model, DATA))


def test_a_teacher_with_another_head_serves():
    assert plugins.gradients(build(tiny.single_stage('fcos'), TEACHER), DATA)


def test_twins_have_no_loss():
    model = build(STUDENT, STUDENT)
    plugins.make_twins(model)
    assert terms(plugins.losses_of(model, DATA)) == pytest.approx(dict.fromkeys(TERMS, 0.0), abs=1e-9)


def test_a_student_may_begin_with_its_teachers_neck_and_head(tmp_path):
    """As the configs on COCO say: stock `init_cfg`, part by part, of what fits."""
    teacher = tiny.build(tiny.single_stage('retinanet', width=16), seed=5)
    weights = teacher.state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'teacher.pth')
    student = tiny.single_stage('retinanet')
    for part in ('neck', 'bbox_head'):
        student[part].init_cfg = dict(type='Pretrained', prefix=part, checkpoint=str(tmp_path / 'teacher.pth'))
    model = build(student, tiny.single_stage('retinanet', width=16))
    model.init_weights()
    begun = {name: value for name, value in model.student.state_dict().items() if not name.startswith('backbone')}
    fits = {name for name, value in begun.items() if value.shape == weights[name].shape}
    assert {'bbox_head.retina_cls.bias', 'neck.fpn_convs.0.conv.weight'} <= fits < begun.keys()
    assert all(torch.equal(begun[name], weights[name]) for name in fits)


def test_what_it_does_not_serve_is_refused():
    pspnet = tiny.segmentor('pspnet_r50-d8')
    with pytest.raises(ValueError, match=r'student \(EncoderDecoder\) has no ground-truth boxes, by which FGD weighs'):
        build(pspnet, pspnet, 'mmseg')
    with pytest.raises(ValueError, match='^objectives.fgd.background must be at least 0, got -1'):
        build(background=-1)
    with pytest.raises(ValueError, match="^objectives.fgd.mode must be one of 'paper', 'code', got 'authors'"):
        build(mode='authors')
