"""Measuring a model: the same numbers as the stock loops, classes apart, and what it costs."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from kddense.distiller import Distiller
from kddense.report.evaluation import (
    build_loader,
    build_model,
    evaluate,
    load_model,
    measure_costs,
    plain_config,
)
from kddense.report.examples import Example, examples_of

FAMILIES = ['detector', 'one_stage', 'structured', 'depth']


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def config(family):
    """Boxes that an untrained detector is a little sure of count too, so that there is something to measure."""
    return family.plain()


@pytest.fixture
def model(family, config):
    torch.manual_seed(4)
    return build_model(config)


def test_it_measures_what_the_stock_loop_measures(family, config, model, tmp_path):
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    config.load_from = str(tmp_path / 'model.pth')

    expected = family.runner(config, tmp_path).test()
    evaluation = evaluate(model, config, 'test')

    assert evaluation.metrics == pytest.approx({key: float(value) for key, value in expected.items()}, nan_ok=True)
    assert evaluation.images == 8


def test_what_classes_measure_makes_up_the_whole(family, config, model):
    evaluation = evaluate(model, config)

    if family.name == 'depth':
        assert evaluation.measure == 'abs rel'
        assert len(evaluation.by_class) == 3
        return
    headline = 'mIoU' if family.package == 'mmseg' else 'coco/bbox_mAP'
    factor = 1 if family.package == 'mmseg' else 100
    assert evaluation.measure == ('IoU' if family.package == 'mmseg' else 'AP')
    assert list(evaluation.by_class) == list(build_loader(config, 'val').dataset.metainfo['classes'])
    measured = factor * evaluation.metrics[headline]
    assert np.nanmean(list(evaluation.by_class.values())) == pytest.approx(measured, abs=0.06)


def test_depths_are_told_apart_by_distance():
    from kddense.report.evaluation import _error_by_distance

    truth = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    predicted = truth * torch.tensor([1.1, 1.1, 1.2, 1.2, 1.4, 1.6])
    errors = _error_by_distance([(truth[:2], predicted[:2]), (truth[2:], predicted[2:])])

    assert list(errors.values()) == pytest.approx([0.1, 0.2, 0.5], rel=1e-5)
    assert next(iter(errors)).startswith('1.0 m to ')


def test_progress_is_told_and_nothing_is_printed(detector, capfd):
    config = detector.plain()
    told = []
    evaluate(build_model(config), config, progress=lambda done, count: told.append((done, count)))

    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert 'annotations' not in capfd.readouterr().out


def test_a_config_without_the_split_is_told(detector):
    config = detector.plain()
    config.test_dataloader = None
    with pytest.raises(ValueError, match='the config has no test_dataloader'):
        evaluate(build_model(config), config, 'test')


def test_a_distillation_is_measured_as_its_student(structured):
    config = structured.distilled()
    plain = plain_config(config)

    assert plain.model == structured.plain().model
    assert config.model.type == 'kddense.Distiller'  # left as it was
    assert not isinstance(build_model(plain), Distiller)


def test_a_preprocessor_beside_the_model_comes_along(structured):
    config = structured.distilled()
    config.data_preprocessor = config.model.student.pop('data_preprocessor')
    assert plain_config(config).model.data_preprocessor == config.data_preprocessor


def test_weights_of_another_model_are_refused(structured):
    with pytest.raises(ValueError, match='teacher.checkpoint .* is of another architecture'):
        load_model(structured.plain(), structured.teacher['checkpoint'], name='teacher')


class Convolution(nn.Module):
    """A model of 4 · 27 + 4 parameters, which multiplies 6 · 6 · 4 · 27 times on an image of 8 x 8."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def test_step(self, batch):
        return self.layer(torch.stack(batch['inputs']))


def test_costs_are_counted():
    model = Convolution().eval()
    example = Example('a.png', np.zeros((8, 8, 3), np.uint8), dict(inputs=torch.zeros(3, 8, 8), data_samples=0), {})
    costs = measure_costs({'small': model}, {'small': example}, rounds=3)['small']

    assert costs.parameters == 112
    assert costs.multiply_adds == 6 * 6 * 4 * 27
    assert costs.latency > 0
    saved = io.BytesIO()
    torch.save(dict(state_dict=model.state_dict()), saved)
    assert costs.file_size == len(saved.getvalue())


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


def test_each_family_draws_its_truth_and_its_predictions(family, config, model):
    (example,) = examples_of(build_loader(config, 'val').dataset, 1)
    with torch.no_grad():
        truth, prediction = example.truth(), example.prediction(model)

    assert truth.shape == prediction.shape
    assert truth.dtype == prediction.dtype == np.uint8
    assert truth.shape[1] == 480
    if family.name == 'depth':
        assert not truth[:10].any()  # not known
        assert prediction[:10].any()
