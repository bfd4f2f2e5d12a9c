"""CUDA graphs by torch.compile: the same numbers as without, over steps whose images change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._inductor.cudagraph_trees import get_manager

from ..helpers import on_gpu, plugins

REPLAYED, FUSED = dict(backend='cudagraphs'), dict(mode='reduce-overhead')
STEPS = 6  # one that warms up, one that records, the others replay


@pytest.fixture(autouse=True)
def nothing_compiled(same_sums):
    """Nothing is compiled yet; and graphs are not left out because of an operation that may add in any order."""
    torch.use_deterministic_algorithms(False)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def graphs():
    """Return how many graphs were recorded on the device."""
    manager = get_manager(torch.cuda.current_device(), create_if_none_exists=False)
    return 0 if manager is None else manager.new_graph_id().id


def compiled(which, options):
    return {f'compile_{one}': options for one in which}


@pytest.mark.parametrize(
    'family, which',
    [('segmentor', ['teacher', 'student']), ('fcos', ['teacher']), ('fcos', ['student'])],
    ids=['segmentor', 'teacher', 'student'],
)
def test_replayed_graphs_give_the_numbers_of_the_models_as_they_are(family, which):
    batches = on_gpu.images_of(family, STEPS)
    wanted = on_gpu.train(on_gpu.model_of(family), batches)
    found = on_gpu.train(on_gpu.model_of(family, **compiled(which, REPLAYED)), batches)
    on_gpu.assert_near(found, wanted)
    if 'teacher' in which:
        assert graphs() > 0


def test_the_number_of_graphs_stays():
    """What is recorded in the first steps is replayed in all later ones, and so is what is recorded of predictions."""
    model = on_gpu.model_of('segmentor', **compiled(['teacher', 'student'], REPLAYED))
    optimizer = on_gpu.optimizer_of(model, 0.01)
    batches = on_gpu.images_of('segmentor', 4)

    def train_and_predict():
        on_gpu.train(model, batches, optimizer=optimizer)
        model.eval()
        with torch.no_grad():
            for data in batches:
                model.test_step(copy.deepcopy(data))

    for _ in range(2):
        train_and_predict()
    before = graphs()
    train_and_predict()
    assert graphs() == before + 1  # asking takes a number itself


def test_accumulated_gradients_are_those_of_the_models_as_they_are():
    """Gradients that wait for the next step are not written over."""
    batches = on_gpu.images_of('fcos', 2)
    found = []
    for options in ({}, compiled(['student'], REPLAYED)):
        model = on_gpu.model_of('fcos', **options).train()
        for number, data in enumerate([*batches] * 4):
            plugins.at_iteration(number)
            if number % 2 == 0:
                model.zero_grad()
            loss, _ = model.parse_losses(model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss'))
            loss.backward()
        found.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=5e-3)


def test_answers_of_a_step_outlive_what_runs_in_it():
    """A teacher that is asked twice in a step does not write over its first answer."""
    model = on_gpu.model_of('fcos', **compiled(['teacher'], REPLAYED))
    teacher = model.teachers['teacher']
    alone = copy.deepcopy(teacher.model.backbone)
    alone._compiled_call_impl = None
    on_gpu.train(model, on_gpu.images_of('fcos', 3))
    images = [torch.full((2, 3, 96, 96), value, device='cuda') for value in (0.5, -0.5)]
    with torch.no_grad():
        for _ in range(3):
            torch.compiler.cudagraph_mark_step_begin()
            kept = [teacher.model.backbone(one) for one in images]
            for levels, one in zip(kept, images, strict=True):
                torch.testing.assert_close(levels, alone(one), rtol=1e-4, atol=1e-5)


def test_a_side_stream_and_graphs_of_a_teacher_are_refused():
    with pytest.raises(ValueError, match=r"side_stream: the teacher 'teacher' replays CUDA graphs"):
        on_gpu.model_of('segmentor', compile_teacher=FUSED, side_stream=True)


def test_a_side_stream_beside_a_student_in_graphs():
    batches = on_gpu.images_of('fcos', STEPS)
    wanted = on_gpu.train(on_gpu.model_of('fcos'), batches)
    found = on_gpu.train(on_gpu.model_of('fcos', compile_student=REPLAYED, side_stream=True), batches)
    on_gpu.assert_near(found, wanted)


def test_inductors_graphs_give_nearly_the_numbers():
    batches = on_gpu.images_of('segmentor', STEPS)
    wanted = on_gpu.train(on_gpu.model_of('segmentor'), batches)
    found = on_gpu.train(on_gpu.model_of('segmentor', **compiled(['teacher', 'student'], FUSED)), batches)
    assert graphs() > 0
    on_gpu.assert_near(found, wanted)
