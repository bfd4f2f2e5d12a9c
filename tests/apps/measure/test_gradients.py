"""Gradients of the terms beside the task's."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from kddense.apps.measure import gradients
from kddense.apps.measure.gradients import gradient_shares, grouped, ready_to_step

ROOT = Path(__file__).parents[3]
RECORDS = sorted(ROOT.glob('configs/*/gradients_*.json'))


class Adversarial(nn.Module):
    own_losses = frozenset({'loss_discriminator'})


def test_losses_are_grouped_by_who_brings_them():
    losses = {
        'decode.loss_ce': torch.tensor(1.0),
        'loss_boxes': [torch.tensor([1.0, 3.0]), torch.tensor(2.0)],
        'decode.acc_seg': torch.tensor(90.0),
        'distill.holistic.loss_student': torch.tensor(5.0),
        'distill.holistic.loss_discriminator': torch.tensor(100.0),
        'distill.holistic.score_student': torch.tensor(1.0),
    }

    groups = grouped(losses, dict(holistic=Adversarial()))

    assert {name: value.item() for name, value in groups.items()} == {'task': 5.0, 'holistic': 5.0}


@pytest.fixture(scope='module')
def shares(structured):
    def measured(weight):
        objectives = dict(pixel=dict(type='kddense.PixelWiseObjective', weight=weight))
        torch.manual_seed(0)
        return gradient_shares(structured.distilled(objectives, randomness=dict(seed=0)), batches=1)

    return {weight: measured(weight) for weight in (1.0, 3.0)}


def test_the_ratio_grows_with_the_weight_and_the_cosine_does_not(shares):
    once, thrice = shares[1.0]['pixel'], shares[3.0]['pixel']

    assert once['ratio'] > 0
    assert thrice['ratio'] == pytest.approx(3 * once['ratio'], rel=1e-3)
    assert thrice['cosine'] == pytest.approx(once['cosine'], abs=1e-3)
    assert -1 <= once['cosine'] <= 1
    assert shares[1.0]['task'] == pytest.approx(shares[3.0]['task'], rel=1e-3)


def test_a_discriminator_has_the_optimiser_that_its_config_asks_for(structured):
    config = structured.distilled(dict(holistic=dict(type='kddense.HolisticObjective', discriminator=dict(channels=4))))

    assert gradient_shares(config, batches=1)['holistic']['ratio'] > 0


def test_a_plain_student_has_no_terms(structured):
    with pytest.raises(ValueError, match=r'model.objectives is missing'):
        gradient_shares(structured.plain())


def test_a_config_without_a_model_ends_in_one_sentence(tmp_path):
    (tmp_path / 'none.py').write_text('train_cfg = dict(max_iters=4)\n')
    with pytest.raises(SystemExit, match=r'^error: model.objectives is missing: gradients are compared in'):
        gradients.main([str(tmp_path / 'none.py')])


def test_objectives_know_the_run(segmentor):
    config = segmentor.distilled()
    config.model.objectives = dict(
        crd=dict(type='kddense.CRDObjective', dim=4, weight=dict(value=1.0, stop=0.5))  # a bank, and a part of the run
    )

    assert gradient_shares(config, batches=3)['crd']['ratio'] > 0  # an empty bank gives none


def test_batches_have_the_images_without_labels_that_a_hook_adds(segmentor):
    config = segmentor.distilled()
    images = {key: one for key, one in config.train_dataloader.dataset.items() if key != 'pipeline'}
    config.custom_hooks = [dict(type='kddense.UnlabelledImagesHook', ratio=2, dataset=images)]

    with ready_to_step(config) as (_, batches):
        assert len(next(batches)['inputs']) == 3 * config.train_dataloader.batch_size


def test_a_run_goes_on_where_its_checkpoint_left_it(segmentor, tmp_path):
    """Weights, connectors, averages of the student; what is of another model is refused, and batches have no end."""
    connector = dict(type='kddense.Connector')
    hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[3], connector=connector)
    config = segmentor.distilled(dict(hint=hint, later=dict(hint, weight=dict(value=1.0, start=0.5))))
    student = segmentor.plain().model.to_dict()
    frozen = config.model.teacher
    average = dict(type='kddense.AverageTeacher', config=dict(model=student, default_scope='mmseg'))
    config.model.teacher = dict(frozen=frozen, average=average)
    for one in config.model.objectives.values():
        one.teacher = 'frozen'
    config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=False)
    config.train_dataloader.batch_size = 4
    with ready_to_step(config) as (model, loader):
        begun = model.teachers['average'].model.state_dict()
        assert all(torch.equal(one, begun[key]) for key, one in model.student.state_dict().items())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        saved = dict(state_dict=model.state_dict(), average_teachers=dict(average=begun))
        torch.save(saved, tmp_path / 'run.pth')
        for _ in range(5):
            next(loader)
    with ready_to_step(config, str(tmp_path / 'run.pth')) as (other, _):
        assert all(torch.equal(one, other.state_dict()[key]) for key, one in model.state_dict().items())
        pairs = zip(model.objectives.parameters(), other.objectives.parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
        averages = other.teachers['average'].model.state_dict()
        assert all(torch.equal(one, averages[key]) for key, one in begun.items())
    wrong = segmentor.teacher['checkpoint']
    with pytest.raises(ValueError, match='is of another model') as error, ready_to_step(config, str(wrong)):
        pass
    assert '\n' not in str(error.value)


def told(ratio: float) -> str:
    return f'{ratio:.2g} times' if ratio < 100 else f'{float(f"{ratio:.3g}"):,.0f} times'.replace(',', ' ')


@pytest.mark.parametrize('record', RECORDS, ids=lambda one: one.parent.name + one.stem)
def test_pages_tell_the_recorded_gradients(record):
    found = json.loads(record.read_text())
    shares = {name: one for name, one in found.items() if isinstance(one, dict) and 'ratio' in one}
    pages = [record.parent / 'README.md', ROOT / 'docs' / 'methods' / f'{record.parent.name}.md']

    assert shares
    assert (ROOT / found['config']).is_file()
    for page in pages:
        for share in shares.values():
            assert told(share['ratio']) in page.read_text(), page
            assert f'{share["cosine"]:+.2f}' in page.read_text(), page
        assert record.name in page.read_text(), page
