"""Training steps of tiny models on a GPU, of images that change, and what runs of them have in common."""

from __future__ import annotations

import copy

import torch
from mmengine.optim import build_optim_wrapper

from . import detectors, plugins, tiny

DEVICE = torch.device('cuda')
SKD = dict(
    pixel=dict(type='kddense.PixelWiseObjective'),
    pair=dict(type='kddense.PairWiseObjective'),
    holistic=dict(type='kddense.HolisticObjective'),
)
FAMILIES = {
    'segmentor': (
        tiny.segmentor('pspnet_r50-d8'),
        tiny.segmentor('pspnet_r50-d8', width=16),
        SKD,
        'mmseg',
    ),
    'fcos': (
        detectors.one_stage('fcos'),
        detectors.one_stage('fcos', width=16),
        dict(
            scores=dict(type='kddense.PixelWiseObjective', on='bbox_head'),
            dense=dict(type='kddense.DenseHintonObjective'),
            pkd=dict(type='kddense.FeatureObjective', tap='neck', loss=dict(type='kddense.PKDLoss')),
        ),
        'mmdet',
    ),
    # The one that hints is asked early, the one that judges the student's boxes late.
    'faster_rcnn': (
        tiny.faster_rcnn(),
        dict(maps=tiny.teacher_of(tiny.faster_rcnn(width=16)), boxes=tiny.teacher_of(tiny.faster_rcnn(width=12))),
        dict(
            hint=dict(type='kddense.HintObjective', teacher='maps'),
            rpn=dict(type='kddense.ChenRPNObjective', teacher='boxes'),
            roi=dict(type='kddense.ChenRoIObjective', teacher='boxes'),
        ),
        'mmdet',
    ),
    'two_teachers': (
        tiny.segmentor('pspnet_r50-d8'),
        {
            name: tiny.teacher_of(tiny.segmentor('pspnet_r50-d8', width=width), 'mmseg')
            for name, width in (('a', 12), ('b', 16))
        },
        dict(
            cwd=dict(type='kddense.CWDObjective', teacher='a'),
            pair=dict(type='kddense.PairWiseObjective', teacher='b'),
        ),
        'mmseg',
    ),
    'gradients': (
        tiny.segmentor('pspnet_r50-d8'),
        tiny.segmentor('pspnet_r50-d8'),
        dict(at=dict(type='kddense.GradientATObjective', tap='backbone', levels=[3])),
        'mmseg',
    ),
}


def model_of(family, compile_student=False, compile_teacher=False, cache=None, but=(), **options):
    """Return a distiller on the GPU.

    Args:
        family: One of :data:`FAMILIES`.
        compile_student: Its option ``compile``.
        compile_teacher: That of its one teacher.
        cache: The folder of a cache of the teacher's answers.
        but: Names of objectives to leave out.
        **options: Of the distiller.
    """
    student, teacher, objectives, scope = FAMILIES[family]
    if 'type' in teacher:
        teacher = tiny.teacher_of(teacher, scope, compile=compile_teacher)
    if cache is not None:
        teacher = dict(teacher, type='kddense.CachedTeacher', folder=str(cache))
    objectives = {name: one for name, one in objectives.items() if name not in but}
    config = dict(type='kddense.Distiller', student=student, teacher=teacher, objectives=objectives)
    if compile_student:
        config['compile'] = compile_student
    config.update(options)
    model = tiny.build(config, scope=scope)
    tiny.shake(*(one.model for one in model.teachers.values()))
    return model.to(DEVICE)


def images_of(family, steps):
    """Return what a data loader would give in each step: images of one size that change.

    A segmentor's maps of 18 x 18 are cut into equal parts by its pooling, whose gradient is then the same in each run.
    """
    if FAMILIES[family][3] == 'mmdet':
        size, first = 96, tiny.detection_data(sizes=((96, 96), (96, 96)))
    else:
        size, first = 144, tiny.segmentation_data((144, 144))
    batches = []
    for number in range(steps):
        data = copy.deepcopy(first)
        data['inputs'] = [tiny.image(size, size, seed=10 * number + place) for place in range(2)]
        batches.append(data)
    return batches


def optimizer_of(model, lr, **options):
    """Return the optimisers of a model, those of its discriminators among them; options are those of the wrapper."""
    adversaries = [name for name, one in model.named_objectives.items() if one.trains_adversary]
    config = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=lr, momentum=0.9)) | options
    if adversaries:
        own = {name: dict(optimizer=dict(type='Adam', lr=1e-4)) for name in adversaries}
        config.update(constructor='kddense.JointOptimWrapperConstructor', objectives=own)
    return build_optim_wrapper(model, config)


def train(model, batches, lr=0.01, optimizer=None):
    """Train; returns the losses of each step by name, and the weights and statistics after the last."""
    torch.manual_seed(0)
    optimizer = optimizer or optimizer_of(model, lr)
    model.train()
    logs = []
    for number, data in enumerate(batches):
        plugins.at_iteration(number)
        log = model.train_step(copy.deepcopy(data), optimizer)
        logs.append({key: value.detach().clone() for key, value in log.items()})
    return logs, {key: value.clone() for key, value in model.state_dict().items()}


def is_equal(one, other):
    """Tell whether two runs are the same bit for bit."""
    pairs = [(one[1], other[1]), *zip(one[0], other[0], strict=True)]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


def assert_near(found, wanted, rtol=2e-2, atol=5e-3):
    """Compare the losses and the weights of two runs, whose sums a GPU adds in any order; accuracies count, and jump."""
    losses = [
        [{key: value for key, value in log.items() if 'loss' in key} for log in run[0]] for run in (found, wanted)
    ]
    torch.testing.assert_close(*losses, rtol=rtol, atol=atol)
    torch.testing.assert_close(found[1], wanted[1], rtol=rtol, atol=atol)
