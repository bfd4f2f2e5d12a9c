"""Bad input gets one clear error, naming the config key, when the distiller is built: before any batch."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
import torch

from ..helpers import tiny

RPN = dict(rpn=dict(type='kddense.ChenRPNObjective'))
ROI = dict(roi=dict(type='kddense.ChenRoIObjective'))
HINT = dict(hint=dict(type='kddense.HintObjective'))


def complaint(student=None, teacher=None, objectives=None, scope='mmdet', **options):
    """Build a distiller that must not build, and return what it says."""
    teacher = tiny.faster_rcnn(width=16) if teacher is None else teacher
    if 'type' in teacher:
        teacher = tiny.teacher_of(teacher, scope)
    config = dict(
        type='kddense.Distiller',
        student=student or tiny.faster_rcnn(),
        teacher=teacher,
        objectives=HINT if objectives is None else objectives,
        **options,
    )
    with pytest.raises((ValueError, TypeError, OSError, ImportError)) as caught:
        tiny.build(config, scope=scope)
    message = str(caught.value)
    assert '\n' not in message
    assert message.count('objectives.') <= 1
    return message


def roi(**options):
    return dict(roi=dict(type='kddense.ChenRoIObjective', **options))


def feature(**options):
    return dict(h=dict(dict(type='kddense.FeatureObjective', tap='neck'), **options))


# --- checkpoints ----------------------------------------------------------------------------------------------------------


class Code:
    def __reduce__(self):
        return os.system, ('true',)


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    weights = tiny.build(tiny.faster_rcnn(width=16)).state_dict()
    torch.save(dict(state_dict=weights), folder / 'good.pth')
    torch.save(dict(state_dict=weights, extra=Code()), folder / 'code.pth')
    (folder / 'truncated.pth').write_bytes((folder / 'good.pth').read_bytes()[:5000])
    torch.save([1, 2], folder / 'list.pth')
    return folder


@pytest.mark.parametrize(
    'file, expected',
    [
        ('absent.pth', r'^teacher.checkpoint: checkpoint .*absent.pth does not exist'),
        ('god.pth', r"god.pth does not exist; the nearest names are 'good.pth'"),
        (
            'truncated.pth',
            r'^teacher.checkpoint: .*truncated.pth is not a readable checkpoint \(truncated download\?\)',
        ),
        ('code.pth', r'^teacher.checkpoint: .*code.pth holds pickled code .*trust_checkpoint=True'),
        ('list.pth', r'^teacher.checkpoint: .*list.pth holds a list, not a dictionary of weights'),
    ],
)
def test_unreadable_checkpoints(checkpoints, file, expected):
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    teacher = dict(tiny.teacher_of(tiny.faster_rcnn(width=16)), checkpoint=str(checkpoints / file))
    assert re.search(expected, complaint(teacher=teacher))
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before


def test_trusted_code_loads(checkpoints):
    teacher = dict(
        tiny.teacher_of(tiny.faster_rcnn(width=16)), checkpoint=str(checkpoints / 'code.pth'), trust_checkpoint=True
    )
    config = dict(type='kddense.Distiller', student=tiny.faster_rcnn(), teacher=teacher, objectives=HINT)
    assert tiny.build(config).teachers


def test_a_checkpoint_of_another_architecture(checkpoints):
    path = str(checkpoints / 'good.pth')
    narrow = complaint(teacher=dict(tiny.teacher_of(tiny.faster_rcnn()), checkpoint=path))
    assert narrow.startswith(
        f"teacher.checkpoint '{path}' is of another architecture than teacher.config (FasterRCNN): "
    )
    wide, own = (tiny.build(tiny.faster_rcnn(width=width)).state_dict() for width in (16, 8))
    differing = sum(value.shape != wide[key].shape for key, value in own.items())
    assert re.search(
        rf'{differing} keys of another shape \(backbone.conv1.weight \(16, 3, 7, 7\) for \(8, 3, 7, 7\), ', narrow
    )
    assert narrow.endswith(', …)')
    other = complaint(teacher=dict(tiny.teacher_of(tiny.single_stage('retinanet', width=16)), checkpoint=path))
    assert re.search(r'10 keys missing \(neck.fpn_convs.4.conv.weight, .*16 keys unexpected \(roi_head', other)


def test_a_two_stage_checkpoint_for_a_one_stage_teacher(checkpoints):
    """mmdet takes a region proposal network for the head of a one-stage detector, and torch refuses the shapes then."""
    path = str(checkpoints / 'good.pth')
    said = complaint(teacher=dict(tiny.teacher_of(tiny.single_stage('fcos', width=16)), checkpoint=path))
    assert said.startswith(f"teacher.checkpoint '{path}' is of another architecture than teacher.config (FCOS): ")
    assert re.search(r'\d keys? of another shape \(bbox_head\.', said)
    assert len(said) < 400


# --- the teacher's arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'changes, expected',
    [
        (dict(precision='int8'), "^teacher.precision must be one of fp32, bf16, fp16, got 'int8'"),
        (dict(input_scale=0), '^teacher.input_scale must be a positive number, got 0'),
        (dict(input_scale=-2.0), '^teacher.input_scale must be a positive number, got -2'),
        (dict(input_scale='2x'), "^teacher.input_scale must be a number, got '2x'"),
        (dict(config='no/such/config.py'), "^teacher.config: there is no file 'no/such/config.py'"),
        (dict(config='mmdet::no/such.py'), "^teacher.config 'mmdet::no/such.py': .*does not exist"),
        (
            dict(config='mmnothing::a.py'),
            "^teacher.config 'mmnothing::a.py' names the package 'mmnothing', which is not there",
        ),
        (dict(config=dict(optimizer=1)), '^teacher.config holds no model'),
    ],
)
def test_arguments_of_the_teacher(changes, expected):
    assert re.search(expected, complaint(teacher=dict(tiny.teacher_of(tiny.faster_rcnn()), **changes)))


def test_a_forgotten_checkpoint():
    expected = "needs the key 'checkpoint': the path of the trained teacher's weights"
    assert complaint(teacher=dict(config=tiny.faster_rcnn())) == f'teacher {expected}'
    several = dict(good=tiny.teacher_of(tiny.faster_rcnn()), bad=dict(config=tiny.faster_rcnn()))
    assert complaint(teacher=several) == f'teacher.bad {expected}'


def test_which_of_several_teachers():
    several = {name: tiny.teacher_of(tiny.faster_rcnn()) for name in ('first', 'second')}
    assert complaint(teacher=several) == 'objectives.hint: teacher must be one of first, second, got None'
    objectives = dict(hint=dict(HINT['hint'], teacher='third'))
    assert complaint(teacher=several, objectives=objectives).endswith("one of first, second, got 'third'")
    assert complaint(objectives=objectives) == "objectives.hint: teacher must be one of teacher, got 'third'"


def test_objectives_without_a_teacher():
    assert complaint(teacher={}).startswith('objectives.hint: there is no teacher to learn from')


# --- taps and channels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(tap='nek'), r"tap 'nek': the student \(FasterRCNN\) has no part 'nek'; the nearest names are 'neck'"),
        (
            dict(teacher_tap='neck.fpn_conv.0'),
            r"tap 'neck.fpn_conv.0': the teacher \(FasterRCNN\) has no part .*'neck.fpn_convs.0'",
        ),
        (dict(tap='neck:outputs'), "tap 'neck:outputs': 'outputs' is unknown"),
        (dict(tap='backbone.bn1'), "tap 'backbone.bn1': .*overwrites .* in place .*write 'backbone.bn1:copy'"),
        (dict(tap='roi_head.mask_head'), "has no part 'roi_head.mask_head'"),
        (dict(tap='neck', levels=[7]), r"levels must name some of 0..4 of what tap 'neck' holds, got \[7\]"),
        (dict(teacher_tap='backbone'), "'neck' holds 5 tensors in the student and 'backbone' 4 in the teacher; name"),
        (
            dict(tap='backbone', connector=None),
            r"the student has 8 channels and the teacher 16, .*connector=dict\(type='kddense.Connector'\)",
        ),
        (
            dict(levels=[0], teacher_tap='roi_head.bbox_head.shared_fcs.0:copy'),
            'features of different rank cannot be connected',
        ),
        (dict(connector='conv'), "^objectives.h.connector must be 'auto', None or a dict, got 'conv'"),
        (dict(connector=dict(in_channels=3)), 'remove in_channels=3'),
        (dict(resize='both'), "resize must be 'student' or 'teacher', got 'both'"),
        (dict(loss=dict(type='kddense.HintLoss', norm='l3')), "norm must be one of 'l2', 'l1', got 'l3'"),
    ],
)
def test_taps_and_channels(options, expected):
    message = complaint(objectives=feature(**options))
    assert message.startswith('objectives.h')
    assert re.search(expected, message)


def test_a_hint_without_adaptation_needs_equal_channels():
    objectives = dict(hint=dict(HINT['hint'], adapt=False))
    message = complaint(teacher=tiny.faster_rcnn(fpn=24), objectives=objectives)
    assert message.startswith('objectives.hint: the student has 16 channels and the teacher 24')


# --- numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(weight=-1), 'weight must be finite and at least 0, got -1'),
        (dict(weight=float('nan')), 'weight must be finite, got nan'),
        (dict(weight=dict(value=1, warm=3)), "weight has no key 'warm'"),
        (dict(mu=1.5), r'mu must lie in \[0, 1\], got 1.5'),
        (dict(mu=-0.1), r'mu must lie in \[0, 1\], got -0.1'),
        (dict(mu=float('nan')), r'mu must be finite, got nan'),
        (dict(nu=-1), 'nu must be a number that is at least 0, got -1'),
        (dict(temperature=0), 'temperature must be above 0, got 0'),
        (dict(temperature=-1), 'temperature must be above 0, got -1'),
        (dict(margin=-0.5), 'margin must be at least 0, got -0.5'),
        (dict(background_weight=-2), 'background_weight must be at least 0, got -2'),
        (dict(nuu=1), "^objectives.roi has no key 'nuu', only .*nearest names are 'nu'"),
    ],
)
def test_numbers(options, expected):
    message = complaint(objectives=roi(**options))
    assert message.startswith('objectives.roi')
    assert re.search(expected, message)


@pytest.mark.parametrize(
    'objectives, expected',
    [
        (
            dict(a=dict(type='kddense.ChenROIObjective')),
            r"a.type: there is no 'kddense.ChenROIObjective'; the nearest names are 'kddense.ChenRoIObjective'",
        ),
        (dict(a=dict(mu=0.5)), r"must be a dict with a `type`, got {'mu': 0.5}"),
        (dict(a='kddense.HintObjective'), "^objectives.a must be a dict, got 'kddense.HintObjective'"),
        (dict(a=dict(type='kddense.HintLoss')), 'HintLoss is not an Objective'),
        ({'a.b': HINT['hint']}, r'module name can\'t contain "."'),
    ],
)
def test_objectives_that_are_none(objectives, expected):
    message = complaint(objectives=objectives)
    assert message.startswith('objectives')
    assert re.search(expected, message)


# --- families -------------------------------------------------------------------------------------------------------------


def fast_rcnn():
    config = tiny.faster_rcnn()
    config.type = 'FastRCNN'
    config.pop('rpn_head')
    config.train_cfg = dict(rcnn=config.train_cfg.rcnn)
    config.test_cfg = dict(rcnn=config.test_cfg.rcnn)
    return config


def sparse_rcnn():
    """One stage of Sparse R-CNN: sigmoid classes, no background."""
    config = tiny.edit(tiny._stock('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py'))
    layers, channels = tiny.backbone()
    config.backbone, config.neck.in_channels = layers, channels
    head = config.roi_head
    head.update(num_stages=1, stage_loss_weights=[1.0], bbox_head=[dict(head.bbox_head[0], feedforward_channels=32)])
    config.train_cfg.rcnn = config.train_cfg.rcnn[:1]
    return config


@pytest.mark.parametrize(
    'student, objectives, scope, expected',
    [
        (lambda: tiny.single_stage('retinanet'), RPN, 'mmdet', r'student \(RetinaNet\) has no region proposal network'),
        (lambda: tiny.single_stage('retinanet'), ROI, 'mmdet', r'student \(RetinaNet\) has no RoI head'),
        (lambda: tiny.single_stage('fcos'), ROI, 'mmdet', r'student \(FCOS\) has no RoI head'),
        (lambda: tiny.segmentor('pspnet_r50-d8'), RPN, 'mmseg', r'student \(EncoderDecoder\) has no region proposal'),
        (fast_rcnn, RPN, 'mmdet', 'student.rpn_head must be an RPNHead, found none'),
        (sparse_rcnn, RPN, 'mmdet', 'student.rpn_head must be an RPNHead, found EmbeddingRPNHead'),
        (sparse_rcnn, ROI, 'mmdet', 'student.roi_head.bbox_head must be a BBoxHead with softmax classes'),
    ],
)
def test_families_that_cannot_serve(student, objectives, scope, expected):
    name = next(iter(objectives))
    message = complaint(student(), tiny.teacher_of(tiny.faster_rcnn(), 'mmdet'), objectives, scope)
    assert message.startswith(f'objectives.{name}: ')
    assert re.search(expected, message)


def test_a_teacher_of_a_family_that_cannot_serve():
    message = complaint(teacher=tiny.single_stage('retinanet'), objectives=ROI)
    assert message.startswith('objectives.roi: teacher (RetinaNet) has no RoI head')


def test_fast_rcnn_can_learn_in_its_roi_head():
    config = dict(type='kddense.Distiller', student=fast_rcnn(), teacher=tiny.teacher_of(tiny.faster_rcnn()))
    assert set(tiny.build(dict(config, objectives=ROI)).objectives) == {'roi'}


@pytest.mark.parametrize(
    'teacher, objectives, expected',
    [
        (
            lambda: tiny.faster_rcnn({'roi_head.bbox_head.num_classes': 4}),
            ROI,
            'roi_head.bbox_head.num_classes: 3 in the student, 4 in the teacher',
        ),
        (
            lambda: tiny.faster_rcnn({'roi_head.bbox_head.bbox_coder.target_stds': [0.5] * 4}),
            ROI,
            r'roi_head.bbox_head.bbox_coder: .*stds=\[0.1, 0.1, 0.2, 0.2\]\) in the student, .*0.5\]\) in the teacher',
        ),
        (tiny.cascade_rcnn, ROI, 'roi_head.num_stages: 1 in the student, 3 in the teacher'),
        (
            lambda: tiny.faster_rcnn({'rpn_head.anchor_generator.scales': [8]}),
            RPN,
            r'rpn_head.anchor_generator.scales: \[4.0\] in the student, \[8.0\] in the teacher',
        ),
        (
            lambda: tiny.faster_rcnn({'rpn_head.anchor_generator.ratios': [0.5, 1.0]}),
            RPN,
            r'rpn_head.anchor_generator.ratios: \[0.5, 1.0, 2.0\] in the student, \[0.5, 1.0\] in the teacher',
        ),
        (
            lambda: tiny.faster_rcnn({'rpn_head.anchor_generator.base_sizes': [5, 9, 16, 32, 64]}),
            RPN,
            r'rpn_head.anchor_generator \(its base anchors\)',
        ),
        (
            lambda: tiny.faster_rcnn({'rpn_head.anchor_generator.strides': [4, 8, 16, 32, 60]}),
            RPN,
            r'rpn_head.anchor_generator.strides: .*\(64, 64\)\] in the student, .*\(60, 60\)\] in the teacher',
        ),
        (
            lambda: tiny.faster_rcnn({'rpn_head.anchor_generator.strides': [4, 8, 16, 32], 'neck.num_outs': 4}),
            RPN,
            r'rpn_head.anchor_generator.strides: .*\(64, 64\)\] in the student, .*\(32, 32\)\] in the teacher',
        ),
        (
            tiny.c4,
            RPN,
            r'rpn_head.anchor_generator.strides: \[\(4, 4\), .* in the student, \[\(16, 16\)\] in the teacher',
        ),
        (
            lambda: tiny.faster_rcnn({'rpn_head.bbox_coder.target_stds': [0.5] * 4}),
            RPN,
            r'rpn_head.bbox_coder: DeltaXYWHBBoxCoder\(means=.*in the student, .*0.5\]\) in the teacher',
        ),
    ],
)
def test_teachers_that_speak_of_other_boxes(teacher, objectives, expected):
    message = complaint(teacher=teacher(), objectives=objectives)
    assert message.startswith(
        f'objectives.{next(iter(objectives))}: student and teacher do not speak about the same boxes'
    )
    assert re.search(expected, message)
    assert 'Give both configs the same values' in message


@pytest.mark.parametrize('scale', [2, 0.5])
def test_anchors_of_two_image_sizes(scale):
    teacher = tiny.teacher_of(tiny.faster_rcnn(), input_scale=scale)
    message = complaint(teacher=teacher, objectives=RPN)
    assert message.startswith(f'objectives.rpn: teacher.input_scale is {scale}, and the anchors of two image sizes')


def test_what_is_off_is_not_checked():
    objectives = dict(rpn=dict(RPN['rpn'], weight=0), roi=ROI['roi'])
    config = dict(type='kddense.Distiller', student=tiny.faster_rcnn(), teacher=tiny.teacher_of(tiny.c4(), 'mmdet'))
    assert set(tiny.build(dict(config, objectives=objectives)).objectives) == {'roi'}


# --- half an installation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('absent, extra', [('mmdet', 'detection'), ('mmseg', 'segmentation')])
def test_half_of_openmmlab_is_enough_and_the_other_half_is_asked_for(absent, extra):
    script = f"""
        import sys
        sys.modules['{absent}'] = None  # what importing it then raises is what Python raises for a missing package
        import kddense
        whole = dict(model=dict(type='Any'), default_scope='{absent}')
        for config in ('{absent}::any/config.py', dict(type='{absent}.Any'), whole):
            try:
                kddense.FrozenTeacher(config, None)
            except ImportError as error:
                print(error)
        assert not any(name.startswith('{absent}.') for name in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wants = f"needs {absent}, which is not installed: pip install 'kddense[{extra}]'"
    said = [line for line in done.stdout.splitlines() if line.startswith('teacher.config')]
    assert said == [f"teacher.config '{absent}::any/config.py' {wants}", *[f'teacher.config {wants}'] * 2]


# --- what a distiller cannot make sense of --------------------------------------------------------------------------------


def test_soft_targets_need_the_same_classes():
    soft = dict(kd=dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss')))
    students = tiny.segmentor('pspnet_r50-d8', classes=5), tiny.segmentor('pspnet_r50-d8', classes=9)
    said = complaint(*students, objectives=soft, scope='mmseg')
    assert said.startswith("objectives.kd: tap 'decode_head' has 5 classes in the student and 9 in the teacher")


@pytest.mark.parametrize(
    'head, reason', [('DynamicRoIHead', 'changes its box coder'), ('PISARoIHead', 'a loss of its own')]
)
def test_roi_heads_whose_boxes_cannot_be_compared(head, reason, monkeypatch):
    from mmdet.models.roi_heads import StandardRoIHead
    from mmdet.registry import MODELS

    monkeypatch.setitem(MODELS.module_dict, 'Unfit', type(head, (StandardRoIHead,), {}))
    said = complaint(student=tiny.faster_rcnn({'roi_head.type': 'Unfit'}), objectives=roi())
    assert said.startswith(f'objectives.roi: student.roi_head is a {head}, which {reason}') or reason in said


def test_an_image_wide_branch_is_refused_in_a_teacher_only():
    student, teacher = tiny.build(tiny.faster_rcnn()), tiny.build(tiny.faster_rcnn())
    from kddense.views import ViewError, build_view

    teacher.roi_head.with_glbctx = student.roi_head.with_glbctx = True
    build_view(student, 'student').check('roi')
    with pytest.raises(ViewError, match=r'^teacher.roi_head fuses an image-wide branch'):
        build_view(teacher, 'teacher').check_teacher('roi')


def test_taps_of_your_own_objective_are_checked_too(monkeypatch):
    from kddense import Objective
    from kddense.registry import MODELS

    def mine(**attributes):
        monkeypatch.setitem(MODELS.module_dict, 'Mine', type('Mine', (Objective,), attributes))
        return dict(x=dict(type='kddense.Mine'))

    misspelt = complaint(objectives=mine(student_taps=frozenset({'nek'})))
    assert misspelt.startswith("objectives.x: tap 'nek': the student (FasterRCNN) has no part 'nek'; the nearest")
    unknown = complaint(objectives=mine(kinds=frozenset({'colours'})), student=tiny.single_stage('retinanet'))
    assert unknown == "objectives.x: student (RetinaNet) has no knowledge of the kind 'colours'"


def test_a_tap_in_the_teachers_roi_head_needs_the_students_rois():
    objective = feature(tap='neck', teacher_tap='roi_head.bbox_head.shared_fcs.0')
    said = complaint(student=tiny.single_stage('retinanet'), objectives=objective)
    assert said.startswith('objectives.h: student (RetinaNet) has no RoI head')


def test_misspelt_and_missing_keys_of_a_teacher():
    teacher = tiny.teacher_of(tiny.faster_rcnn(width=16))
    assert complaint(teacher=dict(teacher, precison='bf16')).startswith(
        "teacher has no key 'precison', only channels_last"
    )
    assert complaint(teacher=dict(checkpoint=None)).startswith("teacher needs the key 'config'")
    assert complaint(teacher=dict(big=dict(config='x.py'))).startswith("teacher.big needs the key 'checkpoint'")


def test_objectives_are_named():
    assert complaint(objectives=[HINT['hint']]).startswith(
        'objectives[0] must be the name of a recipe or a dict of configs by name'
    )


def test_the_students_library_is_absent(monkeypatch):
    from kddense import configs

    monkeypatch.setattr(configs.importlib.util, 'find_spec', lambda package: None)
    assert complaint().startswith('student needs mmdet, which is not installed')


# --- teachers of any type -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'teacher, expected',
    [
        (dict(type='kddense.FrozenTeacer'), "teacher.type: there is no teacher 'kddense.FrozenTeacer'; the nearest names"),
        (dict(type='kddense.ModuleTeacher'), "teacher needs the key 'module'"),
        (dict(type='kddense.EnsembleTeacher', members=[{}, {}]), "teacher.members[0] needs the key 'c"),
        (dict(type='kddense.EnsembleTeacher', members=[1, 2]), 'teacher.members must be a list of dicts, got [1, 2]'),
        (dict(type='kddense.ModuleTeacher', module=dict(type='torchvision.models.resnet')), 'teacher.module'),
        (dict(type='kddense.ModuleTeacher', module=dict(type='no.such.thing')), "teacher.module.type 'no.such.thing' is"),
        (dict(type='kddense.ModuleTeacher', module=dict(kind='x')), 'teacher.module must be a dict with a `type`'),
        (dict(type='kddense.ModuleTeacher', module=dict(type='torch.nn.Identity'), patch_size=0), 'teacher.patch_size'),
        (dict(type='kddense.EnsembleTeacher', members=[]), 'teacher.members must be a list of dicts, and not empty'),
        (dict(type='kddense.FrozenTeacher', checkpoint=None), "teacher needs the key 'config'"),
        (dict(type='kddense.EnsembleTeacher', members=[{}, {}], patch=1), "teacher has no key 'patch', only by, members"),
    ],
)  # fmt: skip
def test_a_type_of_teacher_that_does_not_fit(teacher, expected):
    config = dict(type='kddense.Distiller', student=tiny.faster_rcnn(), teacher=teacher, objectives={})
    with pytest.raises(ValueError, match='^' + re.escape(expected)):
        tiny.build(config)


def test_a_teacher_of_other_image_channels():
    four = dict(mean=[1.0] * 4, std=[2.0] * 4, bgr_to_rgb=False, type=tiny.preprocessor_of_many_channels())
    changes = {f'data_preprocessor.{key}': value for key, value in four.items()}
    teacher = tiny.segmentor('pspnet_r50-d8', {'backbone.in_channels': 4, **changes})
    assert complaint(tiny.segmentor('pspnet_r50-d8'), teacher, scope='mmseg') == (
        "teacher takes images of 4 channels, the student's have 3: name one of 4 channels with teacher.image, or take a "
        'teacher of 3 channels'
    )


def test_an_objective_of_two_teachers_that_wants_one():
    teachers = {name: tiny.teacher_of(tiny.faster_rcnn()) for name in 'ab'}
    said = complaint(teacher=teachers, objectives=feature(teacher=['a', 'b']))
    assert said.startswith(
        'objectives.h: teacher must be one name, got a, b: FeatureObjective compares with one teacher'
    )


def test_what_a_two_stage_detector_returns_as_a_whole_needs_more_than_images():
    said = complaint(objectives=feature(teacher_tap=''))
    assert said.startswith("objectives.h: tap '': this part of the teacher (FasterRCNN) cannot run alone")


def test_a_checkpoint_with_weights_that_are_not_finite(tmp_path):
    weights = tiny.build(tiny.faster_rcnn(width=16)).state_dict()
    weights['neck.lateral_convs.0.conv.bias'][0] = float('nan')
    torch.save(weights, tmp_path / 'bad.pth')
    said = complaint(teacher=dict(tiny.teacher_of(tiny.faster_rcnn(width=16)), checkpoint=str(tmp_path / 'bad.pth')))
    assert said.endswith('holds NaN or infinite weights (neck.lateral_convs.0.conv.bias): take an earlier checkpoint')


def test_teachers_may_be_called_as_arguments_are():
    teachers = {name: tiny.teacher_of(tiny.faster_rcnn()) for name in ('image', 'precision')}
    config = dict(type='kddense.Distiller', student=tiny.faster_rcnn(), teacher=teachers, objectives={})
    assert list(tiny.build(config).teachers) == ['image', 'precision']
