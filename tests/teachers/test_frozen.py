"""Teachers: where they come from, what pixels they see, in which precision they answer."""

import copy

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import kddense
from kddense.exchange import Batch, ImageFormat, Question, RoISample
from kddense.registry import TRANSFORMS

from ..helpers import tiny

OTHER_EYES = {
    'data_preprocessor.mean': [100.0, 110.0, 120.0],
    'data_preprocessor.std': [50.0, 60.0, 70.0],
    'data_preprocessor.bgr_to_rgb': False,
    'data_preprocessor.pad_value': 3,
    'data_preprocessor.pad_size_divisor': 64,
}
SIZES = ((64, 90), (48, 60))
BOXES = (tiny.BOXES, tiny.BOXES[:1])


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def student_batch(student=None, sizes=SIZES, boxes=BOXES):
    data = tiny.detection_data(sizes, boxes)
    preprocessor = tiny.build(student or tiny.faster_rcnn()).data_preprocessor
    return data, preprocessor(copy.deepcopy(data), True), ImageFormat.of(preprocessor)


def pixels_seen(teacher, prepared, pixels):
    """Return what the teacher's backbone is given."""
    seen = []
    hook = teacher.model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    answer = teacher.answer(Question(frozenset({'neck'})), Batch(**prepared, image_format=pixels))
    hook.remove()
    assert len(seen) == 1
    return seen[0], answer


# --- its own preprocessing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'eyes',
    [{}, OTHER_EYES, {'data_preprocessor.pad_value': -2}, {'data_preprocessor.pad_size_divisor': 64}],
    ids=['the same', 'all other', 'pad value', 'divisor'],
)
def test_it_sees_what_its_own_preprocessor_makes_of_the_raw_images(eyes):
    data, prepared, pixels = student_batch()
    assert prepared['inputs'].shape[-2:] == (64, 96)
    before = prepared['inputs'].clone()
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(tiny.faster_rcnn(eyes)))
    seen, answer = pixels_seen(teacher, prepared, pixels)
    expected = teacher.model.data_preprocessor(copy.deepcopy(data), True)['inputs']
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-4)
    assert torch.equal(prepared['inputs'], before)
    assert [level.shape[-2:] for level in answer.taps['neck']] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]


def test_a_segmentor_sees_what_its_own_preprocessor_makes():
    config = tiny.segmentor('pspnet_r50-d8')
    other = tiny.edit(config, {'data_preprocessor.bgr_to_rgb': False, 'data_preprocessor.pad_val': 5})
    data = tiny.segmentation_data(size=(50, 60))
    preprocessor = tiny.build(config, scope='mmseg').data_preprocessor
    prepared = preprocessor(copy.deepcopy(data), True)
    assert prepared['inputs'].shape[-2:] == (64, 64)
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(other, 'mmseg'))
    images, _ = teacher.images.of(Batch(**prepared, image_format=ImageFormat.of(preprocessor)))
    expected = teacher.model.data_preprocessor(copy.deepcopy(data), True)['inputs']
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


def test_equal_pixels_are_handed_on_untouched():
    _, prepared, pixels = student_batch()
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(tiny.faster_rcnn()))
    seen, _ = pixels_seen(teacher, prepared, pixels)
    assert seen.data_ptr() == prepared['inputs'].data_ptr()


# --- another size of image ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('scale', [2, 0.5])
def test_rois_and_images_are_scaled_together(scale):
    _, prepared, pixels = student_batch(sizes=((64, 64),) * 2)
    plain, scaled = (kddense.FrozenTeacher(**tiny.teacher_of(tiny.faster_rcnn()), input_scale=s) for s in (1, scale))
    scaled.model.load_state_dict(plain.model.state_dict())
    seen, _ = pixels_seen(scaled, prepared, pixels)
    assert seen.shape[-2:] == (64 * scale, 64 * scale)

    rois = torch.tensor([[0.0, 8.0, 10.0, 40.0, 44.0], [1.0, 20.0, 4.0, 36.0, 20.0]])
    nobody = torch.zeros(0, dtype=torch.long)
    question = Question(samples={'roi': [RoISample(rois, nobody, nobody, torch.zeros(0, 4))]}, opinions={'roi'})
    answer = scaled.answer(question, Batch(**prepared, image_format=pixels))
    with torch.no_grad():
        by_hand = scaled.model.roi_head._bbox_forward(
            scaled.model.extract_feat(seen), torch.cat([rois[:, :1], rois[:, 1:] * scale], 1)
        )
    torch.testing.assert_close(answer.opinions['roi'][0].logits, by_hand['cls_score'])


@pytest.mark.parametrize('scale', [2, 0.5])
@pytest.mark.parametrize('resize', ['student', 'teacher'])
def test_a_step_with_another_input_scale(scale, resize):
    objectives = dict(roi=dict(type='kddense.ChenRoIObjective'), hint=dict(type='kddense.HintObjective', resize=resize))
    teacher = tiny.teacher_of(tiny.faster_rcnn(OTHER_EYES, width=16), input_scale=scale)
    model = tiny.distiller(tiny.faster_rcnn(), teacher, objectives)
    losses = tiny.step(model, tiny.detection_data(SIZES, BOXES))
    tiny.total(losses).backward()
    assert all(torch.isfinite(losses[f'distill.{name}']) for name in ('roi.loss_cls', 'roi.loss_bbox', 'hint.loss'))
    assert all(p.grad is not None for p in model.parameters())


def pipeline(factor, scale=(128, 128)):
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'teacher_img')
    return [
        TRANSFORMS.build(step)
        for step in (
            dict(type='Resize', scale=scale, keep_ratio=True),
            dict(type='kddense.ShrinkForStudent', factor=factor),
            dict(type='PackDetInputs', meta_keys=meta),
        )
    ]


@pytest.mark.parametrize('eyes', [{}, OTHER_EYES])
def test_the_teacher_sees_the_large_image_that_the_pipeline_kept(eyes):
    import mmdet.datasets.transforms  # noqa: F401

    raws = [
        tiny.image(*size, seed=i).permute(1, 2, 0).contiguous().numpy() for i, size in enumerate([(96, 128), (60, 90)])
    ]
    packed = []
    for number, raw in enumerate(raws):
        results = dict(
            img=raw.copy(),
            img_id=number,
            img_path='',
            img_shape=raw.shape[:2],
            ori_shape=raw.shape[:2],
            gt_bboxes=np.array(tiny.BOXES, dtype=np.float32),
            gt_bboxes_labels=np.array([0, 1, 2]),
            gt_ignore_flags=np.zeros(3, dtype=bool),
        )
        for transform in pipeline(2):
            results = transform(results)
        packed.append(results)
    data = {key: [one[key] for one in packed] for key in ('inputs', 'data_samples')}
    assert [tuple(image.shape) for image in data['inputs']] == [(3, 48, 64), (3, 43, 64)]
    shrunk = data['data_samples'][1]
    assert shrunk.scale_factor == pytest.approx((64 / 90, 43 / 60), abs=0.01)
    torch.testing.assert_close(
        shrunk.gt_instances.bboxes.tensor
        if hasattr(shrunk.gt_instances.bboxes, 'tensor')
        else shrunk.gt_instances.bboxes,
        torch.tensor(tiny.BOXES) * 64 / 90,
        rtol=0.02,
        atol=0.2,
    )

    objectives = dict(roi=dict(type='kddense.ChenRoIObjective'), hint=dict(type='kddense.HintObjective'))
    teacher = tiny.teacher_of(tiny.faster_rcnn(eyes, width=16), input_scale=2)
    model = tiny.distiller(tiny.faster_rcnn(), teacher, objectives)
    taught = model.teachers['teacher'].model
    seen = []
    taught.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    losses = tiny.step(model, data)
    assert torch.isfinite(tiny.total(losses))

    large = [mmcv.imrescale(raw, (128, 128)) for raw in raws]
    images = [torch.from_numpy(image).permute(2, 0, 1) for image in large]
    own = taught.data_preprocessor(dict(inputs=images), False)['inputs']
    assert seen[0].shape[-2:] == (128, 128)
    torch.testing.assert_close(seen[0][..., : own.shape[-2], : own.shape[-1]], own[..., :128, :128], rtol=0, atol=1e-4)


# --- precision ----------------------------------------------------------------------------------------------------------


def can_convolve(dtype):
    try:
        torch.nn.functional.conv2d(torch.ones(1, 1, 2, 2, dtype=dtype), torch.ones(1, 1, 1, 1, dtype=dtype))
    except RuntimeError:
        return False
    return True


PRECISIONS = ['fp32', 'bf16', *(['fp16'] if can_convolve(torch.float16) else [])]


def question_of_all(student, prepared):
    rois = torch.tensor([[0.0, 8.3, 10.2, 41.7, 44.1], [1.0, 19.9, 4.1, 36.3, 20.7]])
    nobody = torch.zeros(0, dtype=torch.long)
    samples = {'roi': [RoISample(rois, nobody, nobody, torch.zeros(0, 4))]}
    return Question(frozenset({'neck', 'rpn_head'}), samples, frozenset({'roi'}))


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('precision, fold_norms', [*((one, False) for one in PRECISIONS), ('fp32', True)])
def test_every_precision_answers_in_plain_float32(precision, fold_norms, channels_last, tmp_path):
    _, prepared, pixels = student_batch()
    config = tiny.teacher_of(tiny.faster_rcnn({**OTHER_EYES, 'data_preprocessor.pad_size_divisor': 32}))
    exact = kddense.FrozenTeacher(**config)
    tiny.shake(exact.model)
    torch.save(exact.model.state_dict(), tmp_path / 'teacher.pth')
    config['checkpoint'] = str(tmp_path / 'teacher.pth')
    options = dict(precision=precision, channels_last=channels_last, fold_norms=fold_norms)
    teacher = kddense.FrozenTeacher(**config, **options)
    question = question_of_all(None, prepared)
    expected, answer = (one.answer(question, Batch(**prepared, image_format=pixels)) for one in (exact, teacher))
    values = [*answer.taps['neck'], *answer.taps['rpn_head'][0], answer.opinions['roi'][0].logits]
    exacts = [*expected.taps['neck'], *expected.taps['rpn_head'][0], expected.opinions['roi'][0].logits]
    for value, wanted in zip(values, exacts, strict=True):
        assert value.dtype == torch.float32
        assert value.is_contiguous()
        assert not value.requires_grad
        tolerance = 1e-5 if precision == 'fp32' else 0.08
        assert (value - wanted).norm() <= tolerance * wanted.norm() + 1e-6
    norms = [m for m in teacher.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.running_mean.dtype == torch.float32 for m in norms)
    assert teacher.model.backbone.conv1.weight.dtype == kddense.teachers.one_model.PRECISIONS[precision]


def test_a_teacher_in_low_precision_asks_whether_that_is_slow_here(monkeypatch):
    asked = []
    monkeypatch.setattr('kddense.teachers.one_model.tell_if_slow', lambda *told: asked.append(told))
    _, prepared, pixels = student_batch()
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(tiny.faster_rcnn(OTHER_EYES)), precision='bf16', name='large')
    teacher.answer(question_of_all(None, prepared), Batch(**prepared, image_format=pixels))

    assert asked == [(torch.bfloat16, torch.device('cpu'), 'large')]


def test_rois_are_not_rounded_in_low_precision():
    _, prepared, pixels = student_batch()
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(tiny.faster_rcnn()), precision='bf16')
    extractor = teacher.model.roi_head.bbox_roi_extractor
    seen = []
    for layer in extractor.roi_layers:
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    question = question_of_all(None, prepared)
    teacher.answer(question, Batch(**prepared, image_format=pixels))
    pooled = torch.cat(seen)
    assert pooled.dtype == torch.float32
    assert sorted(pooled[:, 1].tolist()) == sorted(question.samples['roi'][0].rois[:, 1].tolist())


def test_autocast_around_the_step_does_not_reach_the_teacher():
    _, prepared, pixels = student_batch()
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(tiny.faster_rcnn()))
    question = question_of_all(None, prepared)
    plain = teacher.answer(question, Batch(**prepared, image_format=pixels))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        cast = teacher.answer(question, Batch(**prepared, image_format=pixels))
    assert torch.equal(plain.opinions['roi'][0].logits, cast.opinions['roi'][0].logits)


# --- frozen ---------------------------------------------------------------------------------------------------------------


def test_it_is_frozen_in_eval_mode_for_good_and_draws_nothing():
    config = tiny.segmentor('pspnet_r50-d8')
    config.decode_head.dropout_ratio = 0.5
    before = torch.get_rng_state()
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(config, 'mmseg')).train()
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert copy.deepcopy(teacher) is teacher
    data = tiny.segmentation_data()
    prepared = teacher.model.data_preprocessor(data, True)
    before, weights = torch.get_rng_state(), copy.deepcopy(teacher.state_dict())
    answers = [
        teacher.answer(Question(frozenset({'decode_head'})), Batch(**prepared, image_format=teacher.image_format))
        for _ in 'ab'
    ]
    assert torch.equal(answers[0].taps['decode_head'], answers[1].taps['decode_head'])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, weights[key]) for key, value in teacher.state_dict().items())


# --- where it comes from --------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Return the config and the checkpoint of a teacher, as files."""
    folder = tmp_path_factory.mktemp('teacher')
    model = tiny.build(tiny.faster_rcnn(), seed=11)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1)), folder / 'full.pth')
    torch.save(model.state_dict(), folder / 'bare.pth')
    torch.save({f'module.{key}': value for key, value in model.state_dict().items()}, folder / 'ddp.pth')
    Config(dict(model=tiny.faster_rcnn(), default_scope='mmdet')).dump(folder / 'teacher.py')
    student = dict(type='kddense.Distiller', student=tiny.faster_rcnn())
    Config(dict(model=student, default_scope='mmdet')).dump(folder / 'run.py')
    return folder, model.state_dict()


@pytest.mark.parametrize('file', ['full.pth', 'bare.pth', 'ddp.pth'])
@pytest.mark.parametrize('kind', ['path', 'Path', 'Config', 'dict', 'model', 'run of kddense'])
def test_every_form_of_config_and_checkpoint(trained, kind, file):
    folder, weights = trained
    config = {
        'path': str(folder / 'teacher.py'),
        'Path': folder / 'teacher.py',
        'Config': Config.fromfile(folder / 'teacher.py'),
        'dict': dict(model=tiny.faster_rcnn(), default_scope='mmdet'),
        'model': tiny.faster_rcnn(),
        'run of kddense': str(folder / 'run.py'),
    }[kind]
    teacher = kddense.FrozenTeacher(config, str(folder / file))
    assert type(teacher.model).__name__ == 'FasterRCNN'
    assert all(torch.equal(value, weights[key]) for key, value in teacher.model.state_dict().items())


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_a_config_of_a_package(tmp_path, scope):
    path = 'mmdet::_base_/models/retinanet_r50_fpn.py'
    config = copy.deepcopy(tiny._stock(path))
    config.backbone.init_cfg = None
    checkpoint = tmp_path / 'retina.pth'
    weights = tiny.build(config).state_dict()
    torch.save(weights, checkpoint)
    with DefaultScope.overwrite_default_scope(scope):
        teacher = kddense.FrozenTeacher(path, str(checkpoint))
    assert type(teacher.model).__name__ == 'RetinaNet'
    assert torch.equal(teacher.model.bbox_head.retina_cls.weight, weights['bbox_head.retina_cls.weight'])


@pytest.mark.parametrize(
    'folder, expected',
    [
        ('runs/teacher', '{checkpoint} does not exist; to train it: kddense train {config} --work-dir {folder}'),
        ('.', ''),
    ],
)
def test_a_teacher_that_nobody_trained_yet(tmp_path, folder, expected):
    config, checkpoint = tmp_path / 'teacher.py', tmp_path / folder / 'epoch_12.pth'
    Config(dict(model=tiny.faster_rcnn())).dump(config)
    with pytest.raises(FileNotFoundError) as caught:
        kddense.FrozenTeacher(config=str(config), checkpoint=str(checkpoint))
    said = expected.format(config=config, checkpoint=checkpoint, folder=checkpoint.parent)
    assert str(caught.value).endswith(said or f'{checkpoint} does not exist')


def test_a_data_preprocessor_beside_the_model():
    config = dict(model=tiny.segmentor('pspnet_r50-d8'), default_scope='mmseg')
    preprocessor = config['model'].pop('data_preprocessor')
    preprocessor.mean = [1.0, 2.0, 3.0]
    teacher = kddense.FrozenTeacher(dict(config, data_preprocessor=preprocessor), None)
    assert teacher.image_format.mean == (1.0, 2.0, 3.0)


def batch_norms(model):
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize('options', [dict(precision='bf16'), dict(fold_norms=True)], ids=str)
def test_batch_norms_are_folded_in_low_precision_and_where_asked(options):
    config = tiny.teacher_of(tiny.faster_rcnn(width=16))
    plain, folded = kddense.FrozenTeacher(**config), kddense.FrozenTeacher(**config, **options)
    assert batch_norms(plain.model.backbone) > 0
    assert batch_norms(folded.model.backbone) == 0
    assert not any(parameter.requires_grad for parameter in folded.parameters())


class Crossed(torch.nn.Module):
    """Its norm is defined after one convolution, and runs after the other."""

    def __init__(self):
        super().__init__()
        self.second = torch.nn.Conv2d(3, 4, 1)
        self.first = torch.nn.Conv2d(3, 3, 1)
        self.norm = torch.nn.BatchNorm2d(3)
        self.norm.running_var.fill_(4.0)

    def forward(self, x):
        return (self.second(self.norm(x) + self.first(x)),)


def test_a_norm_that_runs_elsewhere_stays():
    from kddense.teachers.folding import _folded

    backbone = Crossed().eval()
    assert _folded(backbone, 3) is backbone


def test_folding_heads_and_necks_leaves_shared_convolutions_alone():
    from kddense.teachers.folding import _fold_conv_modules

    def block():
        module = mmcv.cnn.ConvModule(3, 3, 1, norm_cfg=dict(type='BN'))
        tiny.shake(module)
        return module

    shared, alone = torch.nn.Sequential(block(), block()).eval(), block().eval()
    shared[1].conv = shared[0].conv
    x = torch.rand(2, 3, 4, 4)
    with torch.no_grad():
        expected = shared(x), alone(x)
        for model in (shared, alone):
            _fold_conv_modules(model)
        for model, value in zip((shared, alone), expected, strict=True):
            torch.testing.assert_close(model(x), value)
    assert (batch_norms(shared), batch_norms(alone)) == (2, 0)


def test_a_teacher_that_a_hook_moved_loads_other_weights_in_its_format(tmp_path):
    teacher = kddense.FrozenTeacher(**tiny.teacher_of(tiny.faster_rcnn()))
    torch.save(dict(state_dict=teacher.model.state_dict(), meta={}), tmp_path / 'anchor.pth')
    teacher.to(memory_format=torch.channels_last)  # as kddense.ChannelsLastHook does
    teacher.load(str(tmp_path / 'anchor.pth'))
    weight = teacher.model.backbone.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
