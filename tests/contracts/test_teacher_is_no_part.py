"""The teacher is a service, not a part: nothing that trains, saves, averages or counts the model finds it."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MessageHub

from kddense.exchange import Batch, Question
from kddense.taps import tensors_of


@pytest.fixture
def distiller(task):
    return task.build(task.distilled().model)


@pytest.fixture
def teacher(distiller):
    return distiller.teachers['teacher']


def loss(task, distiller, seed=0):
    """Return the losses of one step on two images."""
    data = distiller.data_preprocessor(task.batch([0, 1]), True)
    torch.manual_seed(seed)
    losses = distiller(**data, mode='loss')
    return distiller.parse_losses(losses)


def test_it_is_among_no_parameters_buffers_modules_or_weights(task, distiller, teacher):
    parts = {id(part) for part in teacher.modules()}
    tensors = {id(tensor) for tensor in (*teacher.parameters(), *teacher.buffers())}
    assert tensors
    assert not any(id(module) in parts for _, module in distiller.named_modules())
    assert not any(id(child) in parts for child in distiller.children())
    assert not any(id(tensor) in tensors for tensor in (*distiller.parameters(), *distiller.buffers()))
    assert not any('teacher' in name for name, _ in (*distiller.named_modules(), *distiller.named_parameters()))
    assert not any('teacher' in name for name in distiller.state_dict())


def test_the_optimizer_holds_student_and_objectives_alone(task, distiller):
    from mmengine.optim import OptimWrapperDict, build_optim_wrapper

    wrapper = build_optim_wrapper(distiller, task.distilled().optim_wrapper)
    optimizers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    held = [id(parameter) for group in groups for parameter in group['params']]
    student = {id(parameter) for parameter in distiller.student.parameters()}
    own = {id(parameter) for parameter in distiller.objectives.parameters()}
    assert own
    assert len(optimizers) == (2 if 'holistic' in task.objectives else 1)
    assert sorted(held) == sorted(student | own)


def test_parameters_bear_the_plain_students_names(task, distiller):
    expected = [name for name, _ in distiller.student.named_parameters()]
    names = [name for name, _ in distiller.named_parameters()]
    assert names[: len(expected)] == expected
    assert all(name.startswith('objectives.') for name in names[len(expected) :])
    within = [name for name, _ in distiller.named_parameters(prefix='module')]
    assert within == [f'module.{name}' for name in names]


def test_an_average_shares_the_teacher_and_copies_the_rest(task, distiller, teacher):
    from mmengine.model import ExponentialMovingAverage

    average = ExponentialMovingAverage(distiller).module
    assert average.teachers['teacher'] is teacher
    own = {id(parameter) for parameter in distiller.parameters()}
    assert not own & {id(parameter) for parameter in average.parameters()}
    assert average.student_view.model is average.student


def test_it_stays_in_eval_mode_and_frozen(task, distiller, teacher):
    def frozen():
        return not any(module.training for module in teacher.model.modules()) and not any(
            parameter.requires_grad for parameter in teacher.parameters()
        )

    assert frozen()
    distiller.train()
    assert distiller.student.training
    assert frozen()
    teacher.train()
    distiller.requires_grad_(True)
    assert frozen()


def test_a_step_changes_nothing_in_it(task, distiller, teacher):
    before = copy.deepcopy(teacher.model.state_dict())
    total, _ = loss(task, distiller.train())
    total.backward()
    assert not any(parameter.grad is not None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.model.state_dict().items())
    assert all(parameter.grad is not None for parameter in distiller.objectives.parameters())


def test_a_step_draws_the_random_numbers_of_the_plain_student_only(task, distiller):
    """Though a segmentor's teacher has dropout of its own."""
    plain = task.build(task.plain().model).train()
    plain.load_state_dict(distiller.state_dict())
    data = plain.data_preprocessor(task.batch([0, 1]), True)
    torch.manual_seed(5)
    plain(**data, mode='loss')
    expected = torch.get_rng_state()

    taught = []
    teacher = distiller.teachers['teacher']
    answer = teacher.answer
    teacher.answer = lambda *args: taught.append(answer(*args)) or taught[-1]
    # In a run, what objectives draw depends on its seed and iteration alone.
    MessageHub.get_current_instance().update_info_dict(dict(seed=5, iter=2))
    loss(task, distiller.train(), seed=5)
    assert taught
    assert torch.equal(torch.get_rng_state(), expected)


def test_building_it_and_connectors_draws_none(task):
    """Only the student draws: the plain student and the distilled one start from the same numbers."""
    states = []
    for config in (task.plain(), task.distilled(), task.distilled({})):
        torch.manual_seed(9)
        model = task.build(config.model)
        states.append((torch.get_rng_state(), model.state_dict()))
    for state, weights in states[1:]:
        assert torch.equal(state, states[0][0])
        assert all(torch.equal(value, states[0][1][key]) for key, value in weights.items())


def floats(module):
    return {tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()}


@pytest.mark.parametrize(
    'move, dtype',
    [
        (lambda model: model.double(), torch.float64),
        (lambda model: model.to(torch.float64), torch.float64),
        (lambda model: model.half(), torch.float16),
        (lambda model: model.bfloat16(), torch.bfloat16),
    ],
    ids=['double', 'to', 'half', 'bfloat16'],
)
def test_it_follows_to_another_type(task, distiller, teacher, move, dtype):
    move(distiller)
    assert floats(teacher.model) == {dtype}
    if dtype == torch.float16:  # which not every version convolves on the CPU
        return
    tap = {'mmdet': 'neck', 'mmseg': 'decode_head'}[task.package] if task.name != 'mask_segmentor' else 'backbone'
    question = Question(frozenset({tap}))
    answer = teacher.answer(question, Batch(torch.zeros(1, 3, 64, 64, dtype=dtype), [], teacher.image_format))
    assert all(value.isfinite().all() for tap in question.taps for value in tensors_of(answer.taps[tap]))


def test_it_follows_to_another_device(task, distiller, teacher):
    distiller.to('meta')
    assert {parameter.device.type for parameter in teacher.parameters()} == {'meta'}
