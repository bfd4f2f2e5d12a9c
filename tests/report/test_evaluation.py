"""Measuring a model: the same numbers as the stock loops, and classes apart."""

import numpy as np
import pytest
import torch

from kddense.distiller import Distiller
from kddense.export.calibration import calibrate
from kddense.quantisation.scales import KEY
from kddense.report.evaluation import (
    build_loader,
    build_model,
    evaluate,
    load_model,
    plain_config,
)
from kddense.training.quantised import quantising_hook

from ..helpers import tiny

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

    expected = {key: float(value) for key, value in expected.items()}
    assert evaluation.metrics == pytest.approx(expected, abs=0.0051, nan_ok=True)  # evaluators round, the page does
    assert evaluation.images == 8


@pytest.mark.parametrize('activations', [False, True])
def test_a_student_of_few_bits_is_measured_as_its_run_tests_it(segmentor, tmp_path, activations):
    """Ternary weights alone, and ranges of activations that the checkpoint holds."""
    config = segmentor.plain()
    config.default_hooks.quantise = dict(
        type='kddense.QuantiseHook',
        weights=dict(type='kddense.TernaryQuantiser'),
        activations=dict(type='kddense.MinMaxQuantiser') if activations else None,
    )
    torch.manual_seed(4)
    model = build_model(segmentor.plain())
    tiny.shake(model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    checkpoint = dict(state_dict=model.state_dict())
    if activations:
        quantised = quantising_hook(config).choose(model)
        calibrate(quantised, config, 1)
        checkpoint[KEY] = quantised.state()
    torch.save(checkpoint, tmp_path / 'model.pth')

    config.load_from = str(tmp_path / 'model.pth')
    expected = segmentor.runner(config, tmp_path).test()['mIoU']
    found = load_model(plain_config(config), config.load_from)
    in_float = evaluate(model, config).metrics['mIoU']
    assert evaluate(found, config).metrics['mIoU'] == pytest.approx(expected, abs=0.0051)
    assert abs(in_float - expected) > 0.1


def test_a_checkpoint_of_few_bits_under_a_float_config_is_told(segmentor, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('kddense.training.quantised.print_log', lambda message, **_: said.append(message))
    config = segmentor.plain()
    torch.save({'state_dict': build_model(config).state_dict(), KEY: {}}, tmp_path / 'model.pth')
    load_model(config, str(tmp_path / 'model.pth'))
    assert [one.rpartition(': ')[2] for one in said] == ['the model computes in float']


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
