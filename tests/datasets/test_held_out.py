"""Images without labels that a student is measured on as well are told of; others are not."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import ConcatDataset, TensorDataset

from kddense.datasets import UnlabelledImages
from kddense.datasets.held_out import image_files, tell_held_out


@pytest.fixture
def measured_on(one_stage):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(one_stage.plain().val_dataloader.dataset)


def test_they_are_counted_by_their_files_however_these_are_written(measured_on, toy_data, tmp_path):
    (tmp_path / 'alias').symlink_to(toy_data / 'images')
    images = UnlabelledImages([str(tmp_path / 'alias' / '1.png'), str(toy_data / 'images' / '2.png')])

    assert tell_held_out(images, measured_on, 'test').startswith('2 of the images without labels are test images: ')


def test_nothing_is_told_of_other_images(measured_on, toy_data, tmp_path):
    (tmp_path / '1.png').write_bytes((toy_data / 'images' / '1.png').read_bytes())

    assert tell_held_out(UnlabelledImages(str(tmp_path)), measured_on, 'validation') == ''


@pytest.mark.parametrize('wrap', [lambda one: one, lambda one: ConcatDataset([one])], ids=['itself', 'wrapped'])
def test_a_data_set_that_does_not_tell_its_files_has_none(wrap):
    assert image_files(wrap(TensorDataset(torch.zeros(2)))) == set()
