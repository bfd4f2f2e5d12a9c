"""Images of a data set, their ground truth, and what a model predicts of them."""

import numpy as np
import pytest
import torch

from kddense.report.evaluation import build_loader, build_model
from kddense.report.examples import examples_of


def test_true_boxes_are_in_pixels_of_the_image_however_the_pipeline_resizes_it(detector):
    config = detector.plain()
    plain = examples_of(build_loader(config, 'val').dataset, 2)
    config.val_dataloader.dataset.pipeline.insert(
        2, config.val_dataloader.dataset.pipeline.pop(3 - 1)
    )  # the annotations before the image is resized
    config.val_dataloader.dataset.pipeline[1].scale = (128, 128)
    resized = examples_of(build_loader(config, 'val').dataset, 2)

    for own, other in zip(plain, resized, strict=True):
        np.testing.assert_array_equal(own.boxes.corners, other.boxes.corners)
        assert other.item['inputs'].shape[-2:] == (128, 128)
        assert other.image.shape == (64, 64, 3)


def test_images_are_spread_evenly_and_a_small_data_set_is_shown_whole(detector):
    dataset = build_loader(detector.plain(), 'val').dataset
    assert [example.name for example in examples_of(dataset, 3)] == ['0.png', '4.png', '7.png']
    assert len(examples_of(dataset, 99)) == 8


@pytest.mark.parametrize('name', ['detector', 'one_stage', 'structured', 'depth'])
def test_each_family_draws_its_truth_and_its_predictions(name, request):
    family = request.getfixturevalue(name)
    config = family.plain()
    (example,) = examples_of(build_loader(config, 'val').dataset, 1)
    with torch.no_grad():
        truth, prediction = example.truth(), example.prediction(build_model(config))

    assert truth.shape == prediction.shape
    assert truth.dtype == prediction.dtype == np.uint8
    assert truth.shape[1] == 480
    if family.name == 'depth':
        assert not truth[:10].any()  # not known
        assert prediction[:10].any()
