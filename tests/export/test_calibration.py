"""Calibration on training images: of a detector, and of images that cannot be had."""

from __future__ import annotations

import json

import pytest

from kddense import QuantiseHook
from kddense.export.calibration import calibrate

HOOK = QuantiseHook(
    dict(type='kddense.UniformQuantiser', bits=8), dict(type='kddense.MinMaxQuantiser', freeze_after=1), fold_norms=True
)


def calibrated(task, config, batches=2):
    quantised = HOOK.choose(task.build(config.model).eval())
    calibrate(quantised, config, batches)
    return quantised


def test_a_detector_whose_images_are_not_resized(one_stage):
    """Its samples have no scale_factor. A range that rests in training does not rest here."""
    config = one_stage.plain()
    assert not any('Resize' in step['type'] for step in config.train_dataloader.dataset.pipeline)
    found = calibrated(one_stage, config).activations.learnt()
    assert {path.split('.')[0] for path in found} == {'backbone', 'neck', 'bbox_head'}
    assert all(seen[2] == 2 for seen in found.values())


def test_images_that_cannot_be_read_are_named(segmentor, tmp_path):
    for number in range(8):
        (tmp_path / f'{number}.png').write_bytes(b'no image')
    config = segmentor.plain()
    config.train_dataloader.dataset.data_prefix.img_path = str(tmp_path)
    with pytest.raises(ValueError, match=rf'^calibrate: train_dataloader cannot be read: .*{tmp_path}/[0-7]\.png'):
        calibrated(segmentor, config)


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"images": ', 'Expecting value'),
        (json.dumps(dict(images=[], annotations=[], categories=[])), 'need at least one array to concatenate'),
    ],
    ids=['torn', 'empty'],
)
def test_annotations_that_cannot_be_used(one_stage, tmp_path, text, message):
    (tmp_path / 'boxes.json').write_text(text)
    config = one_stage.plain()
    config.train_dataloader.dataset.ann_file = str(tmp_path / 'boxes.json')
    with pytest.raises(ValueError, match=f'^calibrate: train_dataloader cannot be read: {message}'):
        calibrated(one_stage, config)
