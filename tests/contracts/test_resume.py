"""Resume loses nothing: a run that was killed and resumed is bit for bit the run that was not."""

from __future__ import annotations

import pytest
import torch

from kddense.compat import load_checkpoint


@pytest.fixture
def resumed(story):
    return load_checkpoint(story.resumed)


def assert_equal(one, other, where=''):
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_equal(left, right, f'{where}.{index}')
    else:
        assert one == other, where


def test_weights_are_those_of_the_uninterrupted_run(story, resumed):
    assert_equal(dict(story.whole['state_dict']), dict(resumed['state_dict']))


def test_connectors_are_too(story, resumed):
    own = story.whole['state_dict']._metadata['']['kddense']
    assert any('connectors' in key for key in own)
    assert_equal(own, resumed['state_dict']._metadata['']['kddense'])


def test_a_discriminator_and_its_optimiser_are_too(structured_story):
    resumed = load_checkpoint(structured_story.resumed)
    own, found = (one['state_dict']._metadata['']['kddense'] for one in (structured_story.whole, resumed))
    discriminator = {key: value for key, value in own.items() if 'discriminator' in key}
    assert any(key.endswith('._u') for key in discriminator)  # of the spectral norms
    assert_equal(discriminator, {key: found[key] for key in discriminator})

    adam, other = (one['optimizer']['holistic'] for one in (structured_story.whole, resumed))
    assert len(adam['state']) == sum(not key.endswith(('._u', '._v')) for key in discriminator)
    for state in adam['state'].values():
        assert state['step'] == 12
        assert state.keys() == {'step', 'exp_avg', 'exp_avg_sq'}
    assert_equal(adam, other)


@pytest.mark.parametrize('part', ['optimizer', 'param_schedulers', 'random_state'])
def test_optimiser_schedules_and_random_numbers_are_too(story, resumed, part):
    assert_equal(story.whole[part], resumed[part])


@pytest.mark.parametrize(
    'story', ['detector', 'structured', 'query_detector', 'mask_detector', 'mask_segmentor'], indirect=True
)
def test_the_average_is_too(story, resumed):
    assert_equal(dict(story.whole['ema_state_dict']), dict(resumed['ema_state_dict']))


def test_the_loss_curve_has_no_seam(story, resumed, logged_losses):
    curve = logged_losses(story.whole['message_hub'])
    assert len(curve['loss']) == 12
    assert sum(name.startswith('distill.') for name in curve) >= 2
    assert curve == logged_losses(resumed['message_hub'])


def test_the_best_checkpoint_keeps_the_streams_of_its_own_iteration(segmentor, tmp_path):
    """It is saved after a validation, when no other checkpoint is due. mmengine keeps no optimizer in it."""
    from mmengine.evaluator import BaseMetric
    from mmengine.registry import METRICS

    class Constant(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results.append(0)

        def compute_metrics(self, results):
            return dict(constant=1.0)

    def config(**options):
        changes = dict(
            train_cfg__max_iters=8, train_cfg__val_interval=3, default_hooks__checkpoint__save_best='constant'
        )
        changed = segmentor.distilled(default_hooks__checkpoint__rule='greater', **changes, **options)
        changed.optim_wrapper.optimizer = dict(type='SGD', lr=0.01)
        changed.param_scheduler = None
        changed.custom_hooks = [dict(type='kddense.RandomStateHook')]
        changed.val_evaluator = changed.test_evaluator = dict(type='Constant')
        return changed

    METRICS.register_module(module=Constant)
    try:
        whole = segmentor.train(config(), tmp_path / 'whole')
        best = tmp_path / 'whole' / 'best_constant_iter_3.pth'
        whole = dict(whole.model.state_dict())
        resumed = segmentor.train(config(load_from=str(best), resume=True), tmp_path / 'resumed')
    finally:
        METRICS._module_dict.pop('Constant')
    assert_equal(whole, dict(resumed.model.state_dict()))
