"""The images to try a student with are as large as those that it is made for."""

from __future__ import annotations

from typing import Any

import pytest

from kddense.export.image_size import example_size


class TestExampleSize:
    def size(self, shape=None, loader=None, **settings: Any):
        preprocessor = settings.pop('data_preprocessor', {})
        model = dict(data_preprocessor=preprocessor)
        return example_size(dict(settings, model=model, test_dataloader=loader), shape)

    def test_what_is_asked_for(self):
        assert self.size((30, 50), data_preprocessor=dict(size=(512, 1024))) == (30, 50)

    def test_the_crop(self):
        assert self.size(data_preprocessor=dict(size=(512, 1024)), crop_size=(64, 64)) == (512, 1024)
        assert self.size(data_preprocessor=dict(size_divisor=32), crop_size=(500, 64)) == (512, 64)

    def test_what_images_are_resized_to(self):
        """Width comes first there; and it is padded, as the images are."""
        resize = dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True)
        dataset = dict(type='RepeatDataset', dataset=dict(pipeline=[dict(type='LoadImageFromFile'), resize]))
        assert self.size(loader=dict(dataset=dataset), data_preprocessor=dict(pad_size_divisor=32)) == (800, 1344)

    def test_what_a_depth_estimators_images_are_cropped_to(self):
        """Height comes first; the width that NYU's images are resized to is that of none of them."""
        loaders = dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='RandomCrop', crop_size=(480, 640))])))
        bound = dict(dataset=dict(pipeline=[dict(type='Resize', scale=(2000, 480), keep_ratio=True)]))
        model = dict(decode_head=dict(type='DepthHead'))
        assert example_size(dict(loaders, model=model, test_dataloader=bound), None) == (480, 640)

    def test_nothing_to_go_by(self):
        with pytest.raises(ValueError, match='does not say how large images are: pass --shape HEIGHT WIDTH'):
            self.size()
        with pytest.raises(ValueError, match=r'the shape must be a height and a width, got \(0, 4\)'):
            self.size((0, 4))
