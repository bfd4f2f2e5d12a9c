"""kddense diagnose: figures by hand, and a toy run from config to page."""

from __future__ import annotations

import json
import math

import pytest
import torch

from kddense.apps import diagnose as app
from kddense.apps.diagnose.command import diagnose
from kddense.apps.diagnose.figures import agreement, angle_of, calibration_error, explained_share, geometry
from kddense.apps.diagnose.observer import Heard

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
OTHER = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
LABELS = torch.tensor([0, 0, 0, 1])


def test_agreement_by_hand():
    found = agreement(Heard(LOGITS, OTHER, LABELS), sigmoid=False)
    assert found['top1'] == 0.75
    assert (found['student_accuracy'], found['teacher_accuracy'], found['gap']) == (0.75, 1.0, 0.25)
    p = OTHER.softmax(1)
    assert found['teacher_entropy'] == pytest.approx(float(-(p * p.log()).sum(1).mean()), rel=1e-5)
    expected = float((p * (p.log() - LOGITS.log_softmax(1))).sum(1).mean())
    assert found['divergence'] == pytest.approx(expected, rel=1e-5)
    same = agreement(Heard(OTHER, OTHER, LABELS), sigmoid=False)
    assert same['divergence'] == pytest.approx(0, abs=1e-6)
    assert same['top1'] == 1


def test_sigmoid_classes_have_none_as_one_more():
    logits = torch.tensor([[-3.0, -2.0], [2.0, -1.0], [-1.0, 0.5]])
    found = agreement(Heard(logits, logits, torch.tensor([2, 0, 0])), sigmoid=True)
    assert found['student_accuracy'] == pytest.approx(2 / 3)
    assert found['divergence'] == pytest.approx(0, abs=1e-6)


def test_calibration_by_hand():
    """Two in the bin of 0.9, one right: |1 - 1.8| of 3; one in that of 0.5, right: |1 - 0.5| of 3."""
    found = calibration_error(torch.tensor([0.9, 0.9, 0.5]), torch.tensor([True, False, True]))
    assert found == pytest.approx((0.8 + 0.5) / 3, rel=1e-5)
    assert calibration_error(torch.ones(4), torch.ones(4, dtype=torch.bool)) == 0


def test_geometry():
    torch.manual_seed(0)
    features = torch.randn(50, 4)
    weight = torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0]])
    found = geometry(Heard(LOGITS, OTHER, LABELS, features, features), weight)
    assert found['span'] == pytest.approx(1)
    assert found['reach'] == pytest.approx(1)
    flat = features * torch.tensor([0.0, 1, 1, 1])
    blind = geometry(Heard(LOGITS, OTHER, LABELS, flat, flat), weight)
    assert blind['span'] == pytest.approx(0, abs=1e-6)
    assert blind['angle'] == pytest.approx(90)
    assert geometry(Heard(LOGITS, OTHER, LABELS, flat, features), weight)['reach'] < 0.3
    assert explained_share(torch.randn(9, 2).double(), torch.ones(9, 1).double()) <= 1
    assert angle_of(0) == pytest.approx(90)
    assert angle_of(-1.0000001) == pytest.approx(180)
    assert math.isfinite(found['bound'])


@pytest.mark.parametrize('family', ['segmentor', 'detector'])
def test_a_run_from_config_to_page(family, request, tmp_path, capsys):
    task = request.getfixturevalue(family)
    task.build(task.plain().model)
    config = task.distilled()
    if family == 'detector':  # the same objectives, by the name of their recipe
        config.model.objectives = ['chen2017']
    config.dump(tmp_path / 'run.py')
    files = [str(tmp_path / name) for name in ('why.json', 'why.html')]
    assert app.main([str(tmp_path / 'run.py'), '--batches', '2', '--json', files[0], '--page', files[1]]) == 0
    figures = json.loads((tmp_path / 'why.json').read_text())
    assert 0 <= figures['agreement']['top1'] <= 1
    assert set(figures['gradients']) == {'task', *task.objectives}
    assert all(0 <= one['angle'] <= 180 for name, one in figures['gradients'].items() if name != 'task')
    assert ('geometry' in figures) == (family == 'segmentor')
    assert 'one guess on' in capsys.readouterr().out
    assert '<h2>agreement</h2>' in (tmp_path / 'why.html').read_text()


@pytest.mark.parametrize('family', ['segmentor', 'detector'])
def test_images_without_labels_count_for_gradients_alone(family, request):
    task = request.getfixturevalue(family)
    config = task.distilled()
    alone = diagnose(config, batches=1)
    images = {key: one for key, one in config.train_dataloader.dataset.items() if key != 'pipeline'}
    config.custom_hooks = [dict(type='kddense.UnlabelledImagesHook', dataset=images)]
    beside = diagnose(config, batches=1)

    assert 0 < beside['samples'] <= alone['samples']
    assert set(beside['gradients']) == set(alone['gradients'])


def test_one_of_several_teachers(segmentor, tmp_path, capsys):
    """The first without its name; an ensemble has no one last layer, and an objective that begins later no angle."""
    config = segmentor.distilled()
    both = dict(type='kddense.EnsembleTeacher', members=[config.model.teacher, config.model.teacher])
    config.model.teacher = dict(both=both, one=config.model.teacher)
    config.model.objectives = dict(soft=dict(segmentor.objectives['soft'], teacher='one'))
    config.model.objectives.soft.weight = dict(value=1.0, start=0.5)
    config.dump(tmp_path / 'run.py')
    arguments = [str(tmp_path / 'run.py'), '--batches', '1', '--json', str(tmp_path / 'why.json')]
    for own, shown in (([], False), (['--teacher', 'one'], True)):
        assert app.main([*arguments, *own]) == 0
        figures = json.loads((tmp_path / 'why.json').read_text())
        assert ('geometry' in figures) == shown
        assert set(figures['gradients']['soft']) == {'loss', 'ratio'}
        assert 'gradient of soft: none at the beginning of the run' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='objectives.diagnosis: teacher must be one of both, one, got'):
        app.main([*arguments, '--teacher', 'two'])


def test_a_plain_config_is_refused(segmentor, tmp_path):
    segmentor.build(segmentor.plain().model)
    segmentor.plain().dump(tmp_path / 'plain.py')
    with pytest.raises(SystemExit, match='gradients are compared in a config that distils'):
        app.main([str(tmp_path / 'plain.py')])


def test_a_config_without_a_model_ends_in_one_sentence(tmp_path):
    (tmp_path / 'none.py').write_text('train_cfg = dict(max_iters=4)\n')
    with pytest.raises(SystemExit, match=r'^error: model.objectives is missing: gradients are compared in'):
        app.main([str(tmp_path / 'none.py')])
