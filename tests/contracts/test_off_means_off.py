"""Off means off: with no objective at work, training is bit for bit the training of the plain student."""

from __future__ import annotations

import pytest
import torch

from kddense.objectives.schedules import WeightSchedule
from kddense.random_state import get_random_state

SCENES = {
    'plain SGD': {},
    'AdamW with clipped gradients': dict(
        optim_wrapper__clip_grad=dict(max_norm=1.0),
        optim_wrapper__optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05),
    ),
    'parameters by name': dict(
        optim_wrapper__paramwise_cfg=dict(
            custom_keys={'backbone.layer1': dict(lr_mult=0.1), 'head': dict(lr_mult=3.0), 'bn1': dict(decay_mult=0.0)},
            norm_decay_mult=0.0,
            bias_lr_mult=2.0,
        )
    ),
    'weights that stay': dict(optim_wrapper__optimizer__lr=0.0, optim_wrapper__optimizer__weight_decay=0.0),
    'a constructor that names parameters': dict(
        optim_wrapper__constructor='ToyLayerDecay', optim_wrapper__paramwise_cfg=dict(decay_rate=0.7)
    ),
}


@pytest.fixture(scope='module', autouse=True)
def toy_layer_decay():
    """A constructor as those of mmdet, mmseg and mmpretrain: it reaches for the backbone and goes by full names."""
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

    class ToyLayerDecay:
        def __init__(self, optim_wrapper_cfg, paramwise_cfg):
            self.config = optim_wrapper_cfg
            self.decay = paramwise_cfg['decay_rate']

        def __call__(self, model):
            groups = []
            stages = len(model.backbone.res_layers)
            for name, parameter in model.named_parameters():
                stage = stages
                if name.startswith('backbone.'):
                    part = name.split('.')[1]
                    stage = int(part[-1]) - 1 if part.startswith('layer') else 0
                groups.append(dict(params=[parameter], lr=0.02 * self.decay ** (stages - stage), name=name))
            optimizer = OPTIMIZERS.build(dict(type='SGD', lr=0.02, momentum=0.9, params=groups))
            return OPTIM_WRAPPERS.build(dict(type='OptimWrapper', optimizer=optimizer))

    OPTIM_WRAPPER_CONSTRUCTORS.register_module(module=ToyLayerDecay)
    yield
    OPTIM_WRAPPER_CONSTRUCTORS._module_dict.pop('ToyLayerDecay')


def length(task):
    """Three epochs of four iterations, or as much as that: shuffles and validations are part of it."""
    return {} if task.package == 'mmdet' else dict(train_cfg__max_iters=10, train_cfg__val_interval=5)


def flat(value):
    """Turn tensors, in nested lists and dicts, into what can be compared with ``==``."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    return [flat(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.fixture(scope='module')
def outcome(tmp_path_factory, logged_losses):
    def train(task, config):
        runner = task.train(config, tmp_path_factory.mktemp('run'))
        assert runner.iter >= 10
        return dict(
            random_numbers=flat(get_random_state()),
            losses=logged_losses(runner.message_hub),
            weights=flat(dict(runner.model.state_dict())),
            optimizer=flat(runner.optim_wrapper.state_dict()),
        )

    return train


@pytest.fixture(scope='module')
def plain_outcome(outcome):
    """Train the plain student, once for all tests that compare with it."""
    known = {}

    def train(task, scene):
        if (task.name, scene) not in known:
            known[task.name, scene] = outcome(task, task.plain(**length(task), **SCENES[scene]))
        return known[task.name, scene]

    return train


def all_with(task, weight):
    return {name: {**objective, 'weight': weight} for name, objective in task.objectives.items()}


def without_chance(task):
    """Return all objectives, but no gradient penalty: where between two maps it looks is drawn at random."""
    objectives = task.objectives
    if 'holistic' in objectives:
        objectives['holistic']['penalty'] = 0
    return objectives


@pytest.mark.parametrize('how', ['weights of 0', 'no objective'])
def test_training_is_the_plain_students(task, how, outcome, plain_outcome):
    objectives = all_with(task, 0) if how == 'weights of 0' else {}
    off = outcome(task, task.distilled(objectives, **length(task)))
    for part, expected in plain_outcome(task, 'plain SGD').items():
        assert off[part] == expected, part


def test_several_optimisers_train_as_the_plain_students_one(structured, outcome, plain_outcome):
    """A child config may switch the discriminator off and leave the constructor of its optimiser."""
    config = structured.distilled(all_with(structured, 0), **length(structured))
    config.optim_wrapper.update(constructor='kddense.JointOptimWrapperConstructor', objectives={})
    off = outcome(structured, config)
    off['optimizer'] = off['optimizer'].pop('student')
    for part, expected in plain_outcome(structured, 'plain SGD').items():
        assert off[part] == expected, part


def test_an_objective_that_has_not_begun_changes_nothing(task, outcome, plain_outcome, monkeypatch):
    monkeypatch.setattr(WeightSchedule, 'check_length', lambda *_: None)  # a run that ends before it begins is refused
    waiting = outcome(task, task.distilled(all_with(task, dict(value=1.0, start=1000)), **length(task)))
    plain = plain_outcome(task, 'plain SGD')
    idle = {name: waiting['losses'].pop(name) for name in list(waiting['losses']) if name.startswith('distill.')}
    assert {name.split('.')[1] for name in idle} == set(task.objectives)
    assert not any(any(values) for values in idle.values())
    for part in ('random_numbers', 'losses', 'weights'):
        assert waiting[part] == plain[part], part


@pytest.mark.parametrize('scene', [scene for scene in SCENES if scene not in ('plain SGD', 'weights that stay')])
def test_optimisers_find_the_parameters_of_the_plain_student(detector, scene, outcome, plain_outcome):
    off = outcome(detector, detector.distilled(all_with(detector, 0), **SCENES[scene]))
    for part, expected in plain_outcome(detector, scene).items():
        assert off[part] == expected, part


def test_clipped_adamw_of_a_segmentor_is_the_plain_students(segmentor, outcome, plain_outcome):
    scene = 'AdamW with clipped gradients'
    off = outcome(segmentor, segmentor.distilled(all_with(segmentor, 0), **length(segmentor), **SCENES[scene]))
    for part, expected in plain_outcome(segmentor, scene).items():
        assert off[part] == expected, part


def test_objectives_at_work_draw_no_random_number(task, outcome, plain_outcome):
    """The segmentor's dropout and image distortions go by the same streams, whatever it is taught.

    A detector's proposals, and thus the boxes drawn from them, change with its weights; so its rate is 0 here.
    """
    scene = 'weights that stay' if task.package == 'mmdet' else 'plain SGD'
    plain = plain_outcome(task, scene)
    taught = outcome(task, task.distilled(without_chance(task), **length(task), **SCENES[scene]))
    assert any(name.startswith('distill.') for name in taught['losses'])
    assert taught['random_numbers'] == plain['random_numbers']
