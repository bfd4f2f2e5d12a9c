"""Sharded models in one process: names, taps, and what is refused. Two processes: ``tests/contracts/test_sharded.py``."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine._strategy import DDPStrategy, DeepSpeedStrategy
from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from mmengine.config import Config

import kddense
from kddense import FSDPStrategy, PeerHook, QuantiseHook, RestHook
from kddense.compat import load_checkpoint
from kddense.taps import Taps
from kddense.training import fsdp
from kddense.training.strategies import check_strategy, is_sharded

needs_fsdp = pytest.mark.skipif(fsdp.fully_shard is None, reason='sharding needs PyTorch 2.6')
TAPS = ('backbone', 'backbone.layer2', 'backbone.layer2.0.conv1:input', 'backbone.layer1.0:copy', 'decode_head')


@pytest.fixture(scope='module')
def group(tmp_path_factory):
    """A process group of this process alone."""
    store = f'file://{tmp_path_factory.mktemp("group") / "store"}'
    torch.distributed.init_process_group('gloo', rank=0, world_size=1, init_method=store)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def sharded(group, tmp_path):
    """A function that shards a model."""

    def shard(model, **options):
        strategy = FSDPStrategy(work_dir=str(tmp_path), env_kwargs=dict(launcher='none'), **options)
        return strategy._wrap_model(model)

    return shard


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, values):
        return (self.scale * values).square()


def distiller_of(task, **options):
    return task.build(task.distilled(**options).model)


@needs_fsdp
class TestSharding:
    def test_parts_keep_their_names_and_taps_hear_the_same(self, segmentor, sharded):
        plain = distiller_of(segmentor).eval()
        split = copy.deepcopy(plain)
        image = torch.randn(1, 3, 64, 64)
        with Taps(plain.student, TAPS) as expected:
            plain(image, mode='tensor')
        split = sharded(split)
        assert is_sharded(split.student.backbone.layer2)
        assert [*dict(split.named_modules())] == [*dict(plain.named_modules())]
        assert [*dict(split.named_parameters())] == [*dict(plain.named_parameters())]
        with Taps(split.student, TAPS) as found:
            split(image, mode='tensor')
        for tap in TAPS:
            torch.testing.assert_close(found[tap], expected[tap])

    def test_units_are_chosen_by_their_paths(self, segmentor, sharded):
        split = sharded(distiller_of(segmentor), units=['backbone.layer[34]', r'backbone\.layer3\.0'])
        units = [name for name, one in split.student.named_modules() if is_sharded(one)]
        assert units == ['backbone.layer3', 'backbone.layer3.0', 'backbone.layer4']

    def test_adam_of_a_weight_without_a_dimension_goes_on(self, group, tmp_path):
        strategy = FSDPStrategy(work_dir=str(tmp_path), env_kwargs=dict(launcher='none'))
        wrapper = dict(optimizer=dict(type='Adam', lr=0.1))
        strategy.prepare(Scaled(), optim_wrapper=wrapper, dispatch_kwargs=dict(init_weights_for_test_or_val=False))

        def step():
            strategy.optim_wrapper.update_params(strategy.model(torch.ones(1, 3)).sum())

        step()
        strategy.save_checkpoint(str(tmp_path / 'scaled.pth'))
        saved = load_checkpoint(tmp_path / 'scaled.pth')
        assert saved['state_dict']['scale'].shape == saved['optimizer']['state'][0]['exp_avg'].shape == ()
        step()
        twice = strategy.model.scale.full_tensor().detach().clone()
        strategy.load_model_state_dict(saved['state_dict'])
        strategy.load_optim_state_dict(saved['optimizer'])
        assert not torch.equal(strategy.model.scale.full_tensor(), twice)
        step()
        assert torch.equal(strategy.model.scale.full_tensor(), twice)

    def test_gradients_in_the_middle_of_a_step(self, segmentor, sharded):
        share = dict(type='kddense.FeatureObjective', tap='backbone', weight='10%')
        with pytest.raises(ValueError, match=r'strategy\.units: objectives\.hint takes gradients in the middle'):
            sharded(distiller_of(segmentor, objectives=dict(hint=share)))


@needs_fsdp
class TestRefusing:
    @pytest.mark.parametrize(
        ('units', 'fault'),
        [
            (
                ['backbone.layr1'],
                r"there is no part 'backbone.layr1' in the student; the nearest names are 'backbone.layer1'",
            ),
            (['decode_head'], r"'decode_head' \(PSPHead\) is not called as a module"),
        ],
    )
    def test_units_that_are_no_parts(self, units, fault, segmentor, sharded):
        with pytest.raises(ValueError, match=r'strategy\.units: ' + fault):
            sharded(distiller_of(segmentor), units=units)

    def test_a_teacher_that_has_no_model_of_its_own(self, segmentor, sharded, tmp_path):
        cached = dict(type='kddense.CachedTeacher', folder=str(tmp_path / 'answers'), teacher=segmentor.teacher)
        config = segmentor.distilled()
        config.model.teacher = cached
        with pytest.raises(ValueError, match=r'strategy\.shard_teacher: the teacher teacher \(CachedTeacher\)'):
            sharded(segmentor.build(config.model), shard_teacher=True)

    def test_copies(self, segmentor, sharded):
        with pytest.raises(ValueError, match='EMAHook'):
            copy.deepcopy(sharded(distiller_of(segmentor)))

    @pytest.mark.parametrize('hook', [PeerHook(), QuantiseHook(weights=dict(type='kddense.UniformQuantiser', bits=4))])
    def test_hooks_that_need_whole_weights(self, hook, segmentor, sharded):
        runner = SimpleNamespace(model=sharded(distiller_of(segmentor)), cfg=Config())
        with pytest.raises(ValueError, match=rf'custom_hooks: {type(hook).__name__} needs whole weights'):
            hook.before_run(runner)
        RestHook(parts={'backbone': dict(stop=0.5)}).before_run(runner)


def test_an_old_pytorch_says_so(monkeypatch):
    monkeypatch.setattr(fsdp, 'fully_shard', None)
    with pytest.raises(ImportError, match='strategy: kddense.FSDPStrategy needs PyTorch 2.6'):
        FSDPStrategy()


def test_strategies_that_would_not_write_a_student():
    stock = object.__new__(MMEngineFSDPStrategy)
    with pytest.raises(ValueError, match=r"strategy: mmengine's FSDPStrategy renames .*kddense\.FSDPStrategy"):
        check_strategy(SimpleNamespace(strategy=stock))
    with pytest.raises(ValueError, match="strategy: under mmengine's DDPStrategy"):
        check_strategy(SimpleNamespace(strategy=object.__new__(DDPStrategy)))
    with pytest.raises(ValueError, match=r"strategy: mmengine's DeepSpeedStrategy writes .*kddense\.DeepSpeedStrategy"):
        check_strategy(SimpleNamespace(strategy=object.__new__(DeepSpeedStrategy)))
    check_strategy(SimpleNamespace(strategy=object.__new__(kddense.DeepSpeedStrategy)))
    check_strategy(SimpleNamespace())
