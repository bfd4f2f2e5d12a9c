"""A distilling config, of either style, in the interfaces of mmdet and mmseg: the student predicts, without a teacher."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict

from kddense import Distiller
from kddense.configs import classes_of
from kddense.teachers import FrozenTeacher

from ..helpers.new_style import new_style

TASKS = ['detector', 'segmentor']
STYLES = ['text', 'classes']


@pytest.fixture(scope='module')
def files(request, detector, segmentor, tmp_path_factory) -> dict[str, Path]:
    """By task: ``<task>.pth``, its plain config, and distilling configs of both styles, whose teachers' weights are gone."""
    folder = tmp_path_factory.mktemp('interfaces')
    for name, task in dict(detector=detector, segmentor=segmentor).items():
        config = task.distilled()
        plain = task.plain()
        torch.manual_seed(0)
        meta = dict(dataset_meta=dict(plain.val_dataloader.dataset.metainfo))
        torch.save(dict(state_dict=task.build(plain.model).state_dict(), meta=meta), folder / f'{name}.pth')
        plain.dump(folder / f'{name}_plain.py')
        config.model.teacher.checkpoint = str(folder / 'gone.pth')
        config.dump(folder / f'{name}_text.py')
        (folder / f'{name}_student.py').write_text(new_style(plain.to_dict(), task.package))
        (folder / f'{name}_classes.py').write_text(
            'from mmengine.config import read_base\n'
            'with read_base():\n'
            f'    from .{name}_student import *\n'
            'from kddense import Distiller, FeatureObjective\n'
            f'model = dict(type=Distiller, student=model, teacher={config.model.teacher.to_dict()!r},\n'
            "             objectives=dict(hint=dict(type=FeatureObjective, tap='backbone', levels=[3])))\n"
        )
    return {file.stem if file.suffix == '.py' else file.name: file for file in folder.iterdir()}


@pytest.fixture(scope='module')
def image(toy_data) -> str:
    return str(toy_data / 'images' / '0.png')


def test_new_style_has_classes_for_types(files):
    config = Config.fromfile(files['detector_classes'])
    assert config.model.type is Distiller
    assert isinstance(config.model.student.type, type)


@pytest.mark.parametrize('style', STYLES)
def test_detectors(style, files, image, detector):
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    weights = str(files['detector.pth'])
    found = {}
    for kind in ('plain', style):
        config = str(files[f'detector_{kind}'])
        model = init_detector(config, weights, device='cpu')
        found[kind, 'api'] = inference_detector(model, image).pred_instances
        if kind == 'classes' and "['type'].split" in inspect.getsource(DetInferencer):
            continue  # onedl-mmdetection 3.5.1 reads types as texts alone, in its own configs too
        inferencer = DetInferencer(config, weights, device='cpu', show_progress=False)
        (found[kind, 'inferencer'],) = inferencer(image, return_datasamples=True)['predictions']
    assert len(found['plain', 'api']) > 0
    for key in ('bboxes', 'scores', 'labels'):
        assert torch.equal(found[style, 'api'][key], found['plain', 'api'][key])
        theirs = found['plain', 'inferencer'].pred_instances
        ours = found.get((style, 'inferencer'), found['plain', 'inferencer']).pred_instances
        assert torch.equal(ours[key], theirs[key])


@pytest.mark.parametrize('style', STYLES)
def test_segmentors(style, files, image, segmentor):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    weights = str(files['segmentor.pth'])
    classes = dict(classes=['ground', 'disc', 'square', 'cross'], palette=[[0] * 3, [80] * 3, [160] * 3, [240] * 3])
    found = {}
    for kind in ('plain', style):
        config = str(files[f'segmentor_{kind}'])
        model = init_model(config, weights, device='cpu')
        found[kind, 'api'] = inference_model(model, image).seg_logits.data.numpy()
        inferencer = MMSegInferencer(config, weights, device='cpu', **classes)
        found[kind, 'inferencer'] = inferencer(image)['predictions']
    for interface in ('api', 'inferencer'):
        np.testing.assert_array_equal(found[style, interface], found['plain', interface])


@pytest.mark.parametrize('name', TASKS)
@pytest.mark.parametrize('style', STYLES)
def test_as_a_teacher(name, style, files, request):
    task = request.getfixturevalue(name)
    task.build(task.plain().model)  # its package is registered
    teacher = FrozenTeacher(str(files[f'{name}_{style}']), str(files[f'{name}.pth']))
    assert type(teacher.model).__name__ == task.plain().model.type
    assert teacher.classes == tuple(task.plain().train_dataloader.dataset.metainfo.classes)


def test_training_still_needs_the_teacher(files, detector):
    with pytest.raises(FileNotFoundError, match='teacher.checkpoint'):
        detector.build(Config.fromfile(files['detector_classes']).model)


def test_new_style_trains_as_the_other(files, detector, tmp_path):
    config = Config.fromfile(files['detector_classes'])
    config.model.teacher.checkpoint = detector.teacher['checkpoint']
    config.merge_from_dict({'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': 2})
    runner = detector.train(config, tmp_path)
    assert any('distill.hint' in key for key in runner.message_hub.log_scalars)


def test_other_configs_answer_as_ever():
    config = ConfigDict(type='FasterRCNN', student=dict(backbone=dict(depth=18)))
    with pytest.raises(AttributeError, match="no attribute 'backbone'"):
        _ = config.backbone
    with pytest.raises(AttributeError, match="no attribute 'neck'"):
        _ = ConfigDict(type='kddense.Distiller', student=dict(backbone=dict(depth=18))).neck


def test_classes_kept_in_a_file_are_read_below_wrappers(tmp_path):
    (tmp_path / 'classes.txt').write_text('disc\nsquare\n')
    data = dict(type='CocoDataset', metainfo=dict(classes=str(tmp_path / 'classes.txt')))
    repeated = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[data, data]))
    for dataset in (data, repeated):
        assert classes_of(dict(train_dataloader=dict(dataset=dataset))) == ('disc', 'square')
