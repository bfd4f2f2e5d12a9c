"""`kddense test` of an ONNX file: the metrics of the student that it was exported from, and files that are refused."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch
from mmengine.config import Config

from kddense.apps import test as app
from kddense.compat import load_checkpoint
from kddense.export import export_student
from kddense.export.onnx_model import OnnxModel

from ..helpers.processors import needs_vnni

pytest.importorskip('onnxruntime')
onnx = pytest.importorskip('onnx')


@pytest.fixture(scope='module')
def exported(detector_run, segmentor_run, depth_run, toy_data, tmp_path_factory):
    """Exports of trained runs by name, each with its config beside it."""
    root = tmp_path_factory.mktemp('exported')
    varied = load_checkpoint(segmentor_run.checkpoint)  # which finds one class alone
    last = varied['state_dict']['decode_head.conv_seg.weight']
    last.normal_(generator=torch.Generator().manual_seed(0))
    torch.save(varied, root / 'varied.pth')
    images = toy_data / 'images'
    for name, source, options in (
        ('detector', detector_run.folder, dict(padded=True, shape=(64, 64), int8=True, images=images)),
        ('boxes', detector_run.folder, dict(outputs='raw', shape=(64, 64))),
        ('alone', detector_run.folder, dict(dynamic='none', shape=(64, 64))),
        ('segmentor', root / 'varied.pth', dict(shape=(64, 64), int8=True, images=images)),
        ('logits', root / 'varied.pth', dict(shape=(64, 64), outputs='raw')),
        ('depth', depth_run.folder, dict(shape=(64, 64), int8=True, images=images)),
    ):
        export_student(source, root / f'{name}.pth', onnx=True, **options)
    (root / 'torn.onnx').write_bytes((root / 'depth.onnx').read_bytes()[:1000])
    foreign = onnx.load(str(root / 'depth.onnx'))
    del foreign.metadata_props[:]
    onnx.save(foreign, str(root / 'foreign.onnx'))
    return root


@pytest.fixture
def measured(exported, tmp_path):
    """The metrics that the command writes of a file."""

    def run(name: str, config: str, *options: str) -> dict[str, float]:
        folder = tmp_path / name
        changes = ['log_level=ERROR', f'experiment_name={tmp_path.name}_{name}', *options]
        app.main(
            [str(exported / f'{config}.py'), str(exported / name), '--work-dir', str(folder), '--cfg-options', *changes]
        )
        (file,) = (file for file in folder.rglob('*.json') if 'vis_data' not in file.parts)
        found = json.loads(file.read_text())
        return {key: value for key, value in found.items() if 'time' not in key}

    return run


@pytest.fixture(scope='module')
def smaller(exported):
    """A segmentor's config that shows its images smaller than they are labelled."""
    resize = dict(type='Resize', scale=(48, 40))
    text = (exported / 'logits.py').read_text()
    (exported / 'smaller.py').write_text(f"{text}\ntest_dataloader['dataset']['pipeline'].insert(1, {resize})\n")
    return 'smaller'


@pytest.mark.parametrize('name, metric', [('segmentor', 'mIoU'), ('depth', 'rmse')])
def test_the_metrics_are_the_students(measured, name, metric):
    expected = measured(f'{name}.pth', name)
    assert expected[metric] > 0
    assert measured(f'{name}.onnx', name) == pytest.approx(expected, rel=1e-4)


def test_boxes_of_padded_images_that_are_seen_smaller_than_they_are(measured):
    scale = 'test_dataloader.dataset.pipeline.1.scale=(40,48)'
    expected = measured('detector.pth', 'detector', scale)
    assert expected['coco/bbox_mAP_50'] > 0
    assert measured('detector.onnx', 'detector', scale) == pytest.approx(expected, abs=1e-3)
    without_sizes = measured('alone.onnx', 'detector', scale, 'test_dataloader.batch_size=1')
    assert without_sizes['coco/bbox_mAP_50'] == pytest.approx(expected['coco/bbox_mAP_50'], abs=0.02)


def test_logits_are_resized_before_a_class_is_chosen(measured, smaller):
    expected = measured('logits.pth', smaller)
    assert expected['mIoU'] > 1
    assert measured('logits.onnx', smaller) == pytest.approx(expected, rel=1e-4)
    maps = measured('segmentor.onnx', smaller)
    assert maps != expected
    assert maps['mIoU'] == pytest.approx(expected['mIoU'], rel=0.1)


@pytest.mark.parametrize(
    'name, metric',
    [
        pytest.param('detector', 'coco/bbox_mAP_50', marks=needs_vnni),
        ('segmentor', 'mIoU'),
        ('depth', 'rmse'),
    ],
)
def test_in_8_bits(measured, name, metric):
    """The hook by which a run rounds leaves the file alone."""
    quantise = 'default_hooks.quantise.type=kddense.QuantiseHook', 'default_hooks.quantise.weights.type=NoSuchQuantiser'
    found, expected = measured(f'{name}.int8.onnx', name, *quantise), measured(f'{name}.onnx', name)
    assert found != expected
    assert found[metric] == pytest.approx(expected[metric], rel=0.3)


@pytest.mark.parametrize(
    'name, config, options, message',
    [
        ('none.onnx', 'depth', [], r'model: there is no file \S+none.onnx'),
        ('torn.onnx', 'depth', [], r'model: \S+torn.onnx is no file of kddense export --onnx that onnxruntime reads'),
        (
            'foreign.onnx',
            'depth',
            [],
            r'model: \S+foreign.onnx does not say how images are normalised, as a file of kddense export does',
        ),
        (
            'boxes.onnx',
            'detector',
            [],
            r'model: \S+boxes.onnx gives boxes, scores, and boxes, scores, labels of a FasterRCNN can be tested: .*',
        ),
        (
            'segmentor.onnx',
            'depth',
            [],
            r'model: \S+segmentor.onnx gives classes, and depth of a DepthEstimator can be tested: .*',
        ),
        (
            'depth.onnx',
            'segmentor',
            [],
            r'model: \S+depth.onnx gives depth, and logits or classes of a EncoderDecoder can be tested: .*',
        ),
        (
            'alone.onnx',
            'detector',
            [],
            r'\S+alone.onnx takes images of 1 x 3 x 64 x 64, and the config gives 2 x 3 x 64 x 64: change .*',
        ),
        (
            'alone.onnx',
            'detector',
            ['test_dataloader.dataset.pipeline.1.scale=(96,96)', 'test_dataloader.batch_size=1'],
            r'\S+alone.onnx takes images of 1 x 3 x 64 x 64, and the config gives 1 x 3 x 96 x 96: change .*',
        ),
        (
            'depth.onnx',
            'depth',
            ['model.data_preprocessor.mean=[1,2,3]'],
            r'model: \S+depth.onnx takes images of mean 123.675, 116.28, 103.53 and std 58.395, 57.12, 57.375, '
            'channels reversed, and data_preprocessor makes others: .*',
        ),
        (
            'segmentor.onnx',
            'segmentor',
            ['test_dataloader.dataset.metainfo.classes=[ground,disc,cross,square]'],
            r'\S+segmentor.onnx finds ground, disc, square, cross, and test_dataloader has ground, disc, cross, square: '
            '.*',
        ),
    ],
)
def test_what_is_refused(exported, measured, name, config, options, message):
    with pytest.raises(SystemExit) as ended:
        measured(name, config, *options)
    assert re.fullmatch(f'error: {message}', ended.value.code)


def test_it_only_predicts_and_is_not_copied(exported):
    config = Config.fromfile(exported / 'depth.py')
    model = OnnxModel(file=str(exported / 'depth.onnx'), model=config.model)
    assert copy.deepcopy(model).file is model.file
    with pytest.raises(ValueError, match="a kddense.OnnxModel only predicts, mode='predict', got 'loss'"):
        model(torch.zeros(1, 3, 64, 64), [], mode='loss')
