"""DeepSpeed's strategy: what it makes of a config, and what it refuses; trained in ``tests/contracts/test_sharded.py``."""

from types import SimpleNamespace

import pytest
from mmengine._strategy import deepspeed as stock
from mmengine.config import Config
from torch import nn

from kddense import AverageTeacherHook, DeepSpeedStrategy, QuantiseHook, RestHook
from kddense.training import zero

SGD = dict(type='SGD', lr=0.1)


@pytest.fixture
def strategy(monkeypatch, tmp_path):
    """A function that makes a strategy, where DeepSpeed need not be there."""
    monkeypatch.setattr(stock, 'deepspeed', SimpleNamespace(__version__='0.19.8'))
    monkeypatch.setattr(zero, '_register_optimisers', list)
    return lambda **options: DeepSpeedStrategy(work_dir=str(tmp_path), env_kwargs=dict(launcher='none'), **options)


def test_it_says_so_without_deepspeed(monkeypatch):
    monkeypatch.setattr(stock, 'deepspeed', None)
    with pytest.raises(ImportError, match='strategy: kddense.DeepSpeedStrategy needs DeepSpeed: pip install deepspeed'):
        DeepSpeedStrategy()


def test_configs_stay_as_they_are(strategy):
    made = strategy()
    assert made.config['zero_optimization'] == dict(stage=2)
    config = dict(type='OptimWrapper', optimizer=SGD, clip_grad=dict(max_norm=5.0, norm_type=2))
    wrapper = made.build_optim_wrapper(config, nn.Linear(2, 2))
    assert isinstance(wrapper, stock.DeepSpeedOptimWrapper)
    assert made.config['gradient_clipping'] == 5
    assert config['type'] == 'OptimWrapper'
    limited = strategy(gradient_clipping=3.0)
    limited.build_optim_wrapper(dict(type='DeepSpeedOptimWrapper', optimizer=SGD, clip_grad=None), nn.Linear(2, 2))
    assert limited.config['gradient_clipping'] == 3


@pytest.mark.parametrize(
    ('options', 'fault'),
    [
        (dict(zero_optimization=dict(stage=3)), r'strategy\.zero_optimization\.stage must be 1 or 2, got 3: '),
        (
            dict(config=dict(zero_optimization=dict(stage=0))),
            r'strategy\.zero_optimization\.stage must be 1 or 2, got 0',
        ),
        (dict(bf16=dict(enabled=True)), r'strategy\.bf16: weights of low precision'),
        (dict(config=dict(fp16=dict(enabled=True))), r'strategy\.fp16: weights of low precision'),
    ],
)
def test_what_would_write_no_student(options, fault, strategy):
    with pytest.raises(ValueError, match=fault):
        strategy(**options)


@pytest.mark.parametrize(
    ('options', 'fault'),
    [
        (dict(type='AmpOptimWrapper'), r"optim_wrapper\.type: .* takes an 'OptimWrapper', got 'AmpOptimWrapper'"),
        (dict(accumulative_counts=2), r'optim_wrapper\.accumulative_counts: DeepSpeed has no such option'),
        (
            dict(objectives=dict(holistic=dict(optimizer=SGD))),
            r'optim_wrapper\.objectives: DeepSpeed has no such option',
        ),
        (
            dict(clip_grad=dict(type='value', clip_value=1)),
            r'optim_wrapper\.clip_grad: DeepSpeed limits the usual norm',
        ),
        (dict(clip_grad=dict(max_norm=1, norm_type=1)), r'optim_wrapper\.clip_grad: DeepSpeed limits the usual norm'),
    ],
)
def test_optimisers_that_deepspeed_has_not(options, fault, strategy):
    with pytest.raises(ValueError, match=fault):
        strategy().build_optim_wrapper(dict(optimizer=SGD, **options), nn.Linear(2, 2))


@pytest.mark.parametrize(
    'hook',
    [
        RestHook(parts={'backbone': dict(stop=0.5)}),
        QuantiseHook(weights=dict(type='kddense.UniformQuantiser', bits=4)),
        AverageTeacherHook(),
    ],
)
def test_hooks_that_need_the_weights_that_are_trained(hook):
    runner = SimpleNamespace(model=stock.MMDeepSpeedEngineWrapper(model=None), cfg=Config())
    with pytest.raises(ValueError, match=rf'custom_hooks: {type(hook).__name__} needs weights that are trained where'):
        hook.before_run(runner)
