"""Models of every family whose teachers' answers may be kept, and what their folders hold."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kddense import CachedTeacher

from . import depth_estimators, detectors, plugins, tiny

SEGMENTOR = tiny.segmentor('pspnet_r50-d8')
WIDE = tiny.segmentor('pspnet_r50-d8', width=16)
FAMILIES = {
    'pixels': (SEGMENTOR, WIDE, dict(a=dict(type='kddense.CWDObjective'), b=dict(type='kddense.PairWiseObjective'))),
    'taps': (SEGMENTOR, WIDE, dict(a=dict(type='kddense.FeatureObjective', tap='backbone'))),
    'auxiliary': (SEGMENTOR, WIDE, dict(a=dict(type='kddense.PixelWiseObjective', on='auxiliary_head'))),
    'depth': (
        depth_estimators.depth_estimator(),
        depth_estimators.depth_estimator(),
        dict(a=dict(type='kddense.PairWiseObjective'), b=dict(type='kddense.AttentiveDepthObjective', error_range=5.0)),
    ),
    'chen': (
        tiny.faster_rcnn(),
        tiny.faster_rcnn(width=16),
        dict(
            rpn=dict(type='kddense.ChenRPNObjective'),
            roi=dict(type='kddense.ChenRoIObjective'),
            hint=dict(type='kddense.HintObjective'),
        ),
    ),
    'rpn': (tiny.faster_rcnn(), tiny.faster_rcnn(width=16), dict(rpn=dict(type='kddense.ChenRPNObjective'))),
    'cascade': (tiny.cascade_rcnn(), tiny.cascade_rcnn(width=16), dict(roi=dict(type='kddense.ChenRoIObjective'))),
    'fcos': (
        detectors.one_stage('fcos'),
        detectors.one_stage('fcos'),
        dict(
            scores=dict(type='kddense.PixelWiseObjective', on='bbox_head'),
            dense=dict(type='kddense.DenseHintonObjective'),
            pkd=dict(type='kddense.FeatureObjective', tap='neck', loss=dict(type='kddense.PKDLoss')),
        ),
    ),
    'crosskd': (
        detectors.one_stage('atss', {'bbox_head.stacked_convs': 2}),
        detectors.one_stage('atss', {'bbox_head.stacked_convs': 2}, width=12),
        dict(
            cross=dict(type='kddense.CrossKDObjective'),
            fgd=dict(type='kddense.FGDObjective', weight=1e-3),
            gid=dict(type='kddense.GIDObjective', weight=1e-3),
        ),
    ),
    'gfl': (detectors.one_stage('gfl'), detectors.one_stage('gfl'), dict(ld=dict(type='kddense.LDObjective'))),
}


def data_of(name):
    if name == 'depth':
        return depth_estimators.depth_data(count=2)
    return tiny.segmentation_data() if name in ('pixels', 'taps', 'auxiliary') else tiny.detection_data()


def scope_of(name):
    return 'mmseg' if name in ('pixels', 'taps', 'auxiliary', 'depth') else 'mmdet'


def model_of(name, folder=None, **options):
    student, teacher, objectives = FAMILIES[name]
    teacher = tiny.teacher_of(teacher, scope_of(name), **options)
    if folder is not None:
        teacher.update(type='kddense.CachedTeacher', folder=str(folder))
    return distiller_of(student, teacher, objectives, scope_of(name))


def distiller_of(student, teacher, objectives, scope):
    config = dict(type='kddense.Distiller', student=student, teacher=teacher, objectives=objectives)
    model = tiny.build(config, scope=scope)
    tiny.shake(*(one.model for one in model.teachers.values()))
    return model


def train(model, data, steps=3):
    torch.manual_seed(0)
    return plugins.train(model, data, steps)


def bytes_in(folder):
    """Return how many bytes of values the shards of a folder hold."""
    return sum(one.nbytes for file in folder.glob('*.safetensors') for one in load_file(file).values())


def change_values(folder, change):
    """Change the values in the only shard of a folder."""
    (file,) = folder.glob('*.safetensors')
    with safe_open(file, 'pt') as opened:
        about = opened.metadata()
    save_file({key: change(values) for key, values in load_file(file).items()}, file, about)


def cached(model) -> CachedTeacher:
    return model.teachers['teacher']
