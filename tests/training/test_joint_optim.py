"""Several optimisers on one backward pass."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import warnings

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, MultiStepLR, OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from kddense.compat import load_checkpoint
from kddense.compat.amp import CpuAmpOptimWrapper
from kddense.exchange import Batch, Question
from kddense.training import JointOptimWrapper, JointOptimWrapperConstructor
from kddense.training.joint_optim_constructor import check_schedules

from ..contracts.test_resume import assert_equal
from ..contracts.test_two_processes import without_chance
from ..helpers.processes import PATIENCE, SCRIPTS
from ..helpers.scripts import toy_adversary  # noqa: F401  (registers it)

SGD = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4)
ADAM = dict(type='Adam', lr=0.004, betas=(0.5, 0.99))
CLIP_STUDENT, CLIP_ADVERSARY = 4.0, 7.0
MAPS = frozenset({'decode_head'})


def optim_config(**options):
    """Return what a user would write."""
    adversary = dict(optimizer=dict(ADAM), clip_grad=dict(max_norm=CLIP_ADVERSARY))
    config = dict(
        type='OptimWrapper',
        constructor='kddense.JointOptimWrapperConstructor',
        optimizer=dict(SGD),
        clip_grad=dict(max_norm=CLIP_STUDENT),
        objectives=dict(adversary=adversary),
    )
    return {**config, **options}


@pytest.fixture(scope='module')
def objectives(segmentor):
    return dict(hint=segmentor.objectives['hint'], adversary=dict(type='ToyAdversary', weight=1.0))


@pytest.fixture(scope='module')
def original(segmentor, objectives):
    torch.manual_seed(0)
    distiller = segmentor.build(segmentor.distilled(objectives).model)
    distiller.init_weights()
    return distiller


@pytest.fixture
def distiller(original):
    return copy.deepcopy(original)


@pytest.fixture(scope='module')
def batches(segmentor):
    return [{key: list(values) for key, values in segmentor.batch([i, i + 1]).items()} for i in (0, 2, 4, 6)]


# The same training twice: with one backward pass, and as one would write it by hand.


def train_jointly(distiller, batches, milestones, **options):
    wrapper = build_optim_wrapper(distiller, optim_config(**options))
    wrapper.initialize_count_status(distiller, 0, len(batches))
    schedules = [
        MultiStepLR(wrapper[name], milestones=[milestone], gamma=0.25, by_epoch=False)
        for name, milestone in milestones.items()
    ]
    distiller.train()
    torch.manual_seed(0)
    for batch in batches:
        distiller.train_step(copy.deepcopy(batch), wrapper)
        for schedule in schedules:
            schedule.step()
    return wrapper


def train_alternately(distiller, batches, milestones, window=1, amp=False):
    """Train with two optimisers in turn: the student first, the discriminator then on the same maps, detached.

    Returns the norms of their gradients before clipping.
    """
    adversary = distiller.objectives['adversary']
    own = list(adversary.parameters())
    rest = [p for name, p in distiller.named_parameters() if not name.startswith('objectives.adversary.')]
    sgd = torch.optim.SGD(rest, **{key: value for key, value in SGD.items() if key != 'type'})
    adam = torch.optim.Adam(own, **{key: value for key, value in ADAM.items() if key != 'type'})
    norms = []
    distiller.train()
    torch.manual_seed(0)
    for number, batch in enumerate(batches):
        sgd.param_groups[0]['lr'] = SGD['lr'] * (0.25 if number >= milestones['student'] else 1)
        adam.param_groups[0]['lr'] = ADAM['lr'] * (0.25 if number >= milestones['adversary'] else 1)
        first = number // window * window
        share = min(window, len(batches) - first)
        is_last = number == first + share - 1
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=amp):
            losses, ours, theirs = observe(distiller, copy.deepcopy(batch))
            losses['adversarial_loss'] = adversary.student_term(ours)
        (distiller.parse_losses(losses)[0] / share).backward()
        assert all(parameter.grad is None for parameter in own) or window > 1
        if is_last:
            norms.append((clip_and_step(sgd, CLIP_STUDENT),))
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=amp):
            loss = adversary.own_term(ours.detach(), theirs)
        (loss / share).backward()
        if is_last:
            norms[-1] += (clip_and_step(adam, CLIP_ADVERSARY),)
    return norms


def observe(distiller, batch):
    """Return the student's losses with the hint's, its maps, and the teacher's."""
    prepared = distiller.data_preprocessor(batch, True)
    question = Question(MAPS | distiller.objectives['hint'].teacher_taps)
    inputs, samples = prepared['inputs'], prepared['data_samples']
    taught = distiller.teachers['teacher'].answer(question, Batch(inputs, samples, distiller.image_format))
    taps = MAPS | distiller.objectives['hint'].student_taps
    with distiller.student_view.listening(taps, ()) as recording:
        losses = distiller.student(inputs, samples, mode='loss')
    seen = distiller.student_view.read(recording, taps, ())
    losses['hint_loss'] = 0.5 * distiller.objectives['hint'](seen, taught)['loss']
    return losses, seen.taps['decode_head'], taught.taps['decode_head']


def clip_and_step(optimizer, max_norm):
    parameters = [p for p in optimizer.param_groups[0]['params'] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()
    optimizer.zero_grad()
    return norm.item()


def everything(distiller):
    return {**distiller.student.state_dict(), **distiller.objectives.state_dict()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_it_is_alternating_updates_from_the_same_forward_pass(distiller, original, batches):
    milestones = dict(student=6, adversary=11)
    by_hand = copy.deepcopy(original)
    norms = train_alternately(by_hand, batches * 5, milestones)
    train_jointly(distiller, batches * 5, milestones)
    assert_same(everything(distiller), everything(by_hand))
    for reached, limit in zip(zip(*norms, strict=True), (CLIP_STUDENT, CLIP_ADVERSARY), strict=True):
        assert min(reached) < limit < max(reached), 'some steps are clipped, some are not'


def test_it_accumulates_gradients_as_by_hand_and_the_last_window_is_shorter(distiller, original, batches):
    milestones = dict(student=4, adversary=4)
    by_hand = copy.deepcopy(original)
    train_alternately(by_hand, (batches * 2)[:7], milestones, window=2)
    wrapper = train_jointly(distiller, (batches * 2)[:7], milestones, accumulative_counts=2)
    assert wrapper['adversary'].optimizer.state_dict()['state'][0]['step'] == 4
    assert wrapper.inner_count == 7
    assert_same(everything(distiller), everything(by_hand))


def test_it_trains_in_mixed_precision_as_by_hand(distiller, original, batches, monkeypatch):
    monkeypatch.setitem(OPTIM_WRAPPERS.module_dict, 'AmpOptimWrapper', CpuAmpOptimWrapper)
    milestones = dict(student=2, adversary=3)
    by_hand, unscaled = copy.deepcopy(original), copy.deepcopy(original)
    train_alternately(by_hand, batches, milestones, amp=True)
    train_jointly(distiller, batches, milestones, type='AmpOptimWrapper', loss_scale='dynamic')
    assert_same(everything(distiller), everything(by_hand))
    train_jointly(unscaled, batches, milestones)
    assert any(not torch.equal(value, everything(unscaled)[key]) for key, value in everything(distiller).items())


def test_gradients_are_zeroed_after_the_step(distiller, batches):
    train_jointly(distiller, batches[:1], dict(student=9, adversary=9))
    assert all(parameter.grad is None for parameter in distiller.parameters())


# Who gets what.


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(paramwise_cfg=dict(norm_decay_mult=0.0)),
        dict(student_constructor='ForceDefaultOptimWrapperConstructor', paramwise_cfg=dict(norm_decay_mult=0.0)),
    ],
    ids=['default', 'paramwise', 'another_constructor'],
)
def test_every_parameter_has_one_optimiser(distiller, options):
    wrapper = build_optim_wrapper(distiller, optim_config(**options))
    assert isinstance(wrapper, JointOptimWrapper)
    owned = {
        name: [id(p) for group in one.optimizer.param_groups for p in group['params']] for name, one in wrapper.items()
    }
    adversary = {id(p) for p in distiller.objectives['adversary'].parameters()}
    connectors = {id(p) for p in distiller.objectives['hint'].parameters()}
    assert set(owned['adversary']) == adversary
    assert connectors
    assert connectors <= set(owned['student'])
    assert sorted(owned['student'] + owned['adversary']) == sorted(map(id, distiller.parameters()))
    if 'paramwise_cfg' in options:
        groups = wrapper['student'].optimizer.param_groups
        assert {group['weight_decay'] for group in groups} == {0.0, 5e-4}


def test_the_students_constructor_is_the_one_that_is_named(distiller, monkeypatch):
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

    seen = []

    class Recorder:
        def __init__(self, optim_wrapper_cfg, paramwise_cfg):
            seen.append((dict(optim_wrapper_cfg), paramwise_cfg))

        def __call__(self, model):
            seen.append([name for name, _ in model.named_parameters() if name.startswith('objectives.')])
            return OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))

    monkeypatch.setitem(OPTIM_WRAPPER_CONSTRUCTORS.module_dict, 'Recorder', Recorder)
    build_optim_wrapper(distiller, optim_config(student_constructor='Recorder', paramwise_cfg=dict(x=1)))
    config, paramwise = seen[0]
    assert config == dict(type='OptimWrapper', optimizer=SGD, clip_grad=dict(max_norm=CLIP_STUDENT))
    assert paramwise == dict(x=1)
    assert seen[1]
    assert not any('adversary' in name for name in seen[1])


def test_the_model_stays_as_it_was_but_for_the_sign_on_what_is_served(distiller):
    before = list(distiller.state_dict()), list(distiller.objectives)
    build_optim_wrapper(distiller, optim_config())
    assert (list(distiller.state_dict()), list(distiller.objectives)) == before
    assert distiller.objectives['adversary'].has_optimizer is True
    assert getattr(distiller.objectives['hint'], 'has_optimizer', False) is False


def test_the_model_is_whole_again_if_the_student_cannot_be_built(distiller):
    before = list(distiller.objectives)
    with pytest.raises(ValueError, match='Invalid learning rate'):
        build_optim_wrapper(distiller, optim_config(optimizer=dict(type='SGD', lr=-1.0)))
    assert list(distiller.objectives) == before


def test_a_wrapped_model_is_unwrapped(distiller):
    wrapper = build_optim_wrapper(nn.DataParallel(distiller), optim_config())
    assert list(wrapper.keys()) == ['student', 'adversary']


def test_without_entries_there_is_the_student_alone(segmentor, objectives):
    hint_only = segmentor.build(segmentor.distilled(dict(hint=objectives['hint'])).model)
    config = optim_config()
    del config['objectives']
    assert list(build_optim_wrapper(hint_only, config).keys()) == ['student']


# Messages.


@pytest.mark.parametrize(
    'entries, message',
    [
        ([1], 'optim_wrapper.objectives must be a dict of configs by name, got a list'),
        (dict(adversary=3), "optim_wrapper.objectives.adversary needs the key 'optimizer'.*got 3"),
        (dict(adversary=dict(clip_grad=None)), "optim_wrapper.objectives.adversary needs the key 'optimizer'"),
        (
            dict(adversary=dict(optimizer=ADAM, accumulative_counts=2)),
            "objectives.adversary has no key 'accumulative_counts', only 'optimizer', 'clip_grad'",
        ),
        (dict(student=dict(optimizer=ADAM)), "the name 'student' is taken by the student's own optimiser"),
        ({}, "has no entry 'adversary', whose discriminator needs an optimiser of its own: add adversary=dict"),
        (
            dict(adversary=dict(optimizer=ADAM), adversry=dict(optimizer=ADAM)),
            "objectives.adversry: the model has no such objective that is on, only 'hint', 'adversary': remove it, or",
        ),
    ],
)
def test_entries_that_do_not_fit_are_refused(distiller, entries, message):
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(distiller, optim_config(objectives=entries))


def test_an_entry_of_an_objective_that_is_off_is_refused(segmentor):
    config = segmentor.distilled(dict(adversary=dict(type='ToyAdversary', weight=0.0)))
    with pytest.raises(
        ValueError, match='no such objective that is on, only none: remove it, or switch the objective on'
    ):
        build_optim_wrapper(segmentor.build(config.model), optim_config())


def test_an_objective_without_parameters_is_refused(segmentor, objectives):
    soft = dict(optimizer=dict(ADAM))
    with_soft = segmentor.distilled(dict(soft=segmentor.objectives['soft'])).model
    with pytest.raises(ValueError, match='optim_wrapper.objectives.soft: this objective has no parameters to optimise'):
        build_optim_wrapper(segmentor.build(with_soft), optim_config(objectives=dict(soft=soft)))


def test_a_model_that_is_no_distiller_is_refused():
    message = "needs a model of the type 'kddense.Distiller', got 'Linear': set model.type, or remove the constructor"
    with pytest.raises(ValueError, match=message):
        JointOptimWrapperConstructor(optim_config())(nn.Linear(1, 1))


def test_wrappers_that_cannot_share_a_backward_pass_are_refused():
    one = OptimWrapper(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0))
    with pytest.raises(ValueError, match="must be 'OptimWrapper' or 'AmpOptimWrapper'.*got 'OptimWrapperDict'"):
        JointOptimWrapper(OptimWrapperDict(one=one))


# Loss scaling: two layers are enough.


class PaperScaler:
    """A GradScaler as the books describe it, that writes down what it is asked."""

    def __init__(self, init_scale=8.0):
        self.value = init_scale
        self.calls = []
        self.finite = {}

    def scale(self, loss):
        self.calls.append('scale')
        return loss * self.value

    def unscale_(self, optimizer):
        self.calls.append('unscale_')
        assert id(optimizer) not in self.finite, 'gradients are unscaled twice'
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        for gradient in gradients:
            gradient /= self.value
        self.finite[id(optimizer)] = all(gradient.isfinite().all() for gradient in gradients)

    def step(self, optimizer):
        if id(optimizer) not in self.finite:
            self.unscale_(optimizer)
        self.calls.append('step')
        if self.finite[id(optimizer)]:
            optimizer.step()

    def update(self, new_scale=None):
        self.calls.append('update')
        self.value *= 1 if all(self.finite.values()) else 0.5
        self.finite = {}

    def get_scale(self):
        return self.value

    def state_dict(self):
        return dict(scale=self.value)

    def load_state_dict(self, state):
        self.value = state['scale']


def torch_scaler():
    return torch.amp.GradScaler('cpu', init_scale=8.0)


SCALERS = [PaperScaler, *([torch_scaler] if hasattr(torch.amp, 'GradScaler') else [])]


class ScalingOptimWrapper(AmpOptimWrapper):
    """mmengine's wrapper, where its own constructor asks for a GPU."""

    def __init__(self, loss_scaler, **options):
        OptimWrapper.__init__(self, **options)
        self._scale_update_param = None
        self.loss_scaler = loss_scaler


def two_layers(scaler=None, clip_student=None, clip_adversary=None):
    """Return a student, an adversary and their wrapper."""
    torch.manual_seed(0)
    student, adversary = nn.Linear(3, 2), nn.Linear(2, 1)
    sgd = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
    clip = dict(max_norm=clip_student) if clip_student else None
    first = ScalingOptimWrapper(scaler, optimizer=sgd, clip_grad=clip) if scaler else OptimWrapper(sgd, clip_grad=clip)
    clip = dict(max_norm=clip_adversary) if clip_adversary else None
    second = OptimWrapper(torch.optim.Adam(adversary.parameters(), lr=0.1), clip_grad=clip)
    return student, adversary, JointOptimWrapper(first, adversary=second)


def play(student, adversary, wrapper, steps=5):
    inputs = torch.linspace(-1, 1, 12).reshape(4, 3)
    for _ in range(steps):
        maps = student(inputs)
        wrapper.update_params(maps.square().mean() + adversary(maps.detach()).square().mean() * 3)
    return [*student.parameters(), *adversary.parameters()]


@pytest.mark.parametrize('scaler', SCALERS)
@pytest.mark.parametrize('clip', [{}, dict(clip_student=0.05), dict(clip_adversary=0.05)], ids=str)
def test_scaled_losses_train_as_unscaled_ones(scaler, clip):
    scaled, plain = two_layers(scaler(), **clip), two_layers(**clip)
    for one, other in zip(play(*scaled), play(*plain), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize('clip', [None, 0.05])
def test_the_scaler_works_once_per_step(clip):
    scaler = PaperScaler()
    play(*two_layers(scaler, clip, 0.1), steps=2)
    assert scaler.calls == ['scale', 'unscale_', 'step', 'update'] * 2


@pytest.mark.parametrize('scaler', SCALERS)
@pytest.mark.parametrize('clip', [None, 0.05])
@pytest.mark.parametrize('culprit', [0, 1], ids=['student', 'adversary'])
def test_an_infinite_gradient_of_one_makes_all_skip_the_step(scaler, clip, culprit):
    *layers, wrapper = two_layers(scaler(), clip, clip)
    before = [p.detach().clone() for layer in layers for p in layer.parameters()]
    hook = layers[culprit].weight.register_hook(lambda gradient: gradient * float('inf'))
    after = play(*layers, wrapper, steps=1)
    hook.remove()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert not wrapper['adversary'].optimizer.state
    assert not wrapper['student'].optimizer.state
    assert all(p.grad is None for p in after)
    assert wrapper['student'].loss_scaler.get_scale() == 4.0
    after = play(*layers, wrapper, steps=1)
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.parametrize('scaler', SCALERS)
def test_the_scale_is_saved_and_restored_once(scaler):
    _, _, wrapper = two_layers(scaler())
    wrapper['student'].loss_scaler.load_state_dict({**wrapper['student'].loss_scaler.state_dict(), 'scale': 32.0})
    state = copy.deepcopy(wrapper.state_dict())
    assert state['student']['loss_scaler']['scale'] == 32.0
    assert 'loss_scaler' not in state['adversary']
    _, _, restored = two_layers(scaler())
    restored.load_state_dict(state)
    assert restored['student'].loss_scaler.get_scale() == 32.0


@pytest.mark.parametrize('scaler', [None, PaperScaler])
def test_schedules_see_every_step(scaler):
    """mmengine warns where a schedule advances and an optimiser does not."""
    *layers, wrapper = two_layers(scaler and scaler())
    schedules = [MultiStepLR(one, milestones=[1], by_epoch=False) for one in wrapper.values()]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        play(*layers, wrapper, steps=1)
        for schedule in schedules:
            schedule.step()
    groups = [group for one in wrapper.values() for group in one.param_groups]
    assert [group['lr'] for group in groups] == pytest.approx([0.1 * group['initial_lr'] for group in groups])


# Checkpoints.


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda state: state['student'],
            "holds the state of a single optimiser, this training has 'student', 'adversary'",
        ),
        (
            lambda state: dict(student=state['student']),
            "the checkpoint has no optimiser of 'adversary', only of 'student': it cannot be resumed; start from",
        ),
        (
            lambda state: dict(state, adversary=dict(state['adversary'], param_groups=[])),
            "the checkpoint's optimiser of 'adversary' does not fit: loaded state dict has a different number",
        ),
    ],
    ids=['plain', 'missing', 'other'],
)
def test_a_checkpoint_that_cannot_be_resumed_is_refused(change, message):
    _, _, wrapper = two_layers()
    with pytest.raises(ValueError, match=message):
        wrapper.load_state_dict(change(wrapper.state_dict()))


def test_an_optimiser_too_many_in_the_checkpoint_is_left_out():
    *layers, wrapper = two_layers()
    play(*layers, wrapper)
    student_alone = JointOptimWrapper(OptimWrapper(torch.optim.SGD(layers[0].parameters(), lr=1.0, momentum=0.9)))
    student_alone.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    momentum = [wrapper.optimizer.state_dict()['state'] for wrapper in (wrapper['student'], student_alone['student'])]
    assert torch.equal(momentum[0][0]['momentum_buffer'], momentum[1][0]['momentum_buffer'])
    assert momentum[0][0]['momentum_buffer'].any()


# Through mmengine's runner.

SCHEDULES = r"^param_scheduler must be a list .* by their names, 'student', 'adversary'; got 'student'"


@pytest.fixture(scope='module')
def training(segmentor, objectives):
    """Return the config of a training of six iterations, with a schedule for each optimiser."""

    def config(**options):
        changes = dict(train_cfg__max_iters=6, train_cfg__val_interval=100, default_hooks__checkpoint__interval=3)
        config = segmentor.distilled(objectives, **{**changes, **options})
        config.custom_imports.imports.append('toy_adversary')
        config.merge_from_dict(dict(optim_wrapper=optim_config()))
        warm_up = dict(type='LinearLR', start_factor=0.5, begin=0, end=2, by_epoch=False)
        config.param_scheduler = dict(
            student=config.param_scheduler,
            adversary=[warm_up, dict(type='ConstantLR', factor=0.1, begin=4, end=100, by_epoch=False)],
        )
        config.custom_hooks = [dict(type='kddense.RandomStateHook')]
        return config

    return config


@pytest.fixture(scope='module')
def whole(segmentor, training, tmp_path_factory):
    """The folder of a training that nothing interrupted, and its message hub."""
    folder = tmp_path_factory.mktemp('whole')
    return folder, segmentor.train(training(), folder).message_hub


def test_resuming_restores_every_optimiser_and_schedule(segmentor, training, whole, tmp_path):
    folder, _ = whole
    segmentor.train(training(load_from=str(folder / 'iter_3.pth'), resume=True), tmp_path)
    expected, found = (load_checkpoint(path / 'iter_6.pth') for path in (folder, tmp_path))
    assert expected['optimizer'].keys() == expected['param_schedulers'].keys() == {'student', 'adversary'}
    assert expected['optimizer']['adversary']['state'][0]['step'] == 6
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(dict(expected[part]), dict(found[part]))
    own = [checkpoint['state_dict']._metadata['']['kddense'] for checkpoint in (expected, found)]
    assert any('discriminator' in key for key in own[0])
    assert_equal(*own)


def test_a_schedule_that_no_optimiser_has_stops_the_run(segmentor, training, tmp_path):
    config = training()
    config.param_scheduler['discriminator'] = config.param_scheduler.adversary
    with pytest.raises(ValueError, match=SCHEDULES):
        segmentor.train(config, tmp_path)


def test_a_schedule_that_is_missing_stops_the_run(training):
    config = training()
    del config.param_scheduler['adversary']
    with pytest.raises(ValueError, match=SCHEDULES):
        check_schedules(config)


def test_the_log_names_rates_and_norms_by_optimiser(whole):
    _, hub = whole
    names = {name for name in hub.log_scalars if name.endswith(('lr', 'grad_norm'))}
    assert names == {f'train/{name}.{key}' for name in ('student', 'adversary') for key in ('lr', 'grad_norm')}
    norms = [hub.get_scalar(f'train/{name}.grad_norm').data[0] for name in ('student', 'adversary')]
    assert not set(norms[0]) & set(norms[1])


def test_each_optimiser_follows_its_own_schedule(whole):
    _, hub = whole
    student, adversary = (hub.get_scalar(f'train/{name}.lr').data[0] for name in ('student', 'adversary'))
    poly = [1e-4 + (SGD['lr'] - 1e-4) * (1 - step / 11) ** 0.9 for step in range(6)]
    assert student == pytest.approx(poly)
    assert adversary == pytest.approx([ADAM['lr'] * factor for factor in (0.5, 1, 1, 1, 0.1, 0.1)])


def test_a_list_of_schedules_is_for_every_optimiser_and_rates_scale_with_the_batch(segmentor, training, tmp_path):
    config = training()
    config.param_scheduler = [dict(type='ConstantLR', factor=0.5, begin=0, end=3, by_epoch=False)]
    runner = segmentor.runner(config, tmp_path)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, dict(enable=True, base_batch_size=8))
    runner.build_param_scheduler(runner.param_schedulers)
    rates = runner.optim_wrapper.get_lr()
    assert rates == {'student.lr': [SGD['lr'] / 4 * 0.5], 'adversary.lr': [ADAM['lr'] / 4 * 0.5]}


def test_the_stock_script_trains_it_in_mixed_precision(training, stock_script, tmp_path):
    config = training(train_cfg__max_iters=2, default_hooks__checkpoint__interval=2)
    config.dump(tmp_path / 'joint.py')
    script = stock_script('mmseg', 'train.py')
    output = script.run(tmp_path / 'joint.py', '--work-dir', tmp_path / 'run', '--amp', cwd=tmp_path)
    assert 'student.lr: 2.0000e-02' in output
    assert 'adversary.lr: 2.0000e-03' in output
    (file,) = tmp_path.glob('run/*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()[:2]]  # the third is of the validation
    assert [line['adversary.lr'] for line in lines] == pytest.approx([0.002, 0.004])
    assert all({'student.lr', 'student.grad_norm', 'adversary.grad_norm'} <= line.keys() for line in lines)
    used = Config.fromfile(tmp_path / 'run' / 'joint.py', import_custom_modules=False)
    assert used.optim_wrapper.type == 'AmpOptimWrapper'
    assert load_checkpoint(tmp_path / 'run' / 'iter_2.pth')['optimizer'].keys() == {'student', 'adversary'}


# Two processes.


def test_two_processes_train_as_one(segmentor, objectives, python, tmp_path):
    config = segmentor.distilled(objectives, **without_chance(segmentor))
    torch.manual_seed(0)
    distiller = segmentor.build(config.model)
    batch = {key: list(values) for key, values in segmentor.batch([0, 1, 2, 3]).items()}
    optim_wrapper = optim_config(accumulative_counts=2)
    optim_wrapper['objectives']['adversary']['optimizer']['eps'] = 1e-4  # no step from rounding errors alone
    job = dict(
        model=config.model.to_dict(),
        student=distiller.student.state_dict(),
        objectives=distiller.objectives.state_dict(),
        batches=[batch] * 5,
        optim_wrapper=optim_wrapper,
    )
    (tmp_path / 'job.pkl').write_bytes(pickle.dumps(job))
    command = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', str(SCRIPTS / 'joint_training.py')]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    process = subprocess.Popen(
        [python, *command, str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    before = copy.deepcopy(dict(distiller.named_parameters()))
    wrapper = build_optim_wrapper(distiller, optim_wrapper)
    wrapper.initialize_count_status(distiller, 0, 5)
    distiller.train()
    for _ in range(5):
        distiller.train_step(copy.deepcopy(batch), wrapper)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    found = load_checkpoint(tmp_path / 'weights.pth')
    moved = {name: (parameter - before[name]).abs().max() for name, parameter in distiller.named_parameters()}
    for part in ('backbone.', 'decode_head.', 'objectives.hint.', 'objectives.adversary.'):
        assert max(distance for name, distance in moved.items() if name.startswith(part)) > 1e-3, part
    for name, parameter in distiller.named_parameters():
        torch.testing.assert_close(
            found[name], parameter.detach(), rtol=0, atol=1e-5, msg=lambda m, n=name: f'{n}: {m}'
        )
