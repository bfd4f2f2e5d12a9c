"""What torch.compile runs, and what it must leave to taps."""

import copy

import pytest
import torch

from kddense.views.compiled import CompiledParts, begin_graphs, free_parts

from ..helpers import plugins, tiny

EAGER = dict(backend='eager')  # traces, and compiles nothing
STUDENT, TEACHER = tiny.faster_rcnn(), tiny.faster_rcnn(width=16)
OBJECTIVES = dict(
    roi=dict(type='kddense.ChenRoIObjective'),
    hint=dict(type='kddense.HintObjective', tap='neck'),
    inner=dict(type='kddense.FeatureObjective', tap='backbone.layer3'),
)


def model_of(compile=False, objectives=OBJECTIVES, student=STUDENT, teacher=TEACHER, scope='mmdet'):
    teacher = tiny.teacher_of(teacher, scope, compile=compile)
    return tiny.distiller(student, teacher, objectives, scope, compile=compile)


def compiled_in(model):
    return {name for name, module in model.named_modules() if module._compiled_call_impl is not None}


def test_the_largest_parts_without_taps_are_chosen():
    model = tiny.build(STUDENT)
    assert [path for path, _ in free_parts(model, [])] == ['backbone', 'neck']
    assert [path for path, _ in free_parts(model, ['neck.fpn_convs.0', 'roi_head.bbox_head'])][:2] == [
        'backbone',
        'neck.lateral_convs.0',
    ]
    chosen = [path for path, _ in free_parts(model, ['backbone.layer2.0.conv1:input'])]
    assert chosen == [
        'backbone.layer1',
        'backbone.layer2.0.downsample',
        'backbone.layer2.1',
        'backbone.layer3',
        'backbone.layer4',
        'neck',
    ]


def test_losses_are_those_of_the_models_as_they_are(monkeypatch):
    data = tiny.detection_data()
    torch.manual_seed(0)
    plain = plugins.train(model_of(), data, steps=2)
    torch.manual_seed(0)
    model = model_of(EAGER)
    assert plugins.train(model, data, steps=2) == plain
    assert {'backbone.layer1', 'backbone.layer2', 'backbone.layer4'} <= compiled_in(model.student)
    assert not {'backbone', 'backbone.layer3', 'neck'} & compiled_in(model.student)
    assert {'backbone.layer1', 'backbone.layer4'} <= compiled_in(model.teachers['teacher'].model)
    plugins.assert_contracts(model, STUDENT)


def test_an_average_of_the_student_runs_its_own_weights():
    model = model_of(EAGER)
    plugins.train(model, tiny.detection_data(), steps=1)
    other = copy.deepcopy(model.student)
    with torch.no_grad():
        for one in other.parameters():
            one.zero_()
    image = torch.randn(1, 3, 64, 64)
    assert all(not level.any() for level in other.neck(other.backbone(image)))
    assert any(level.any() for level in model.student.neck(model.student.backbone(image)))


def test_other_taps_compile_other_parts():
    model = tiny.build(STUDENT)
    parts = CompiledParts(EAGER)
    parts.listen(model, [])
    assert compiled_in(model) == {'backbone', 'neck'}
    parts.listen(model, ['neck', 'backbone.layer4'])
    assert {'backbone.layer1', 'backbone.layer2', 'backbone.layer3'} <= compiled_in(model)
    assert not {'backbone', 'neck', 'backbone.layer4'} & compiled_in(model)
    parts.listen(model, None)
    assert compiled_in(model) == set()


def test_gradients_of_gradients_are_not_compiled():
    objectives = dict(a=dict(type='kddense.GradientATObjective', tap='backbone', levels=[3]))
    student = tiny.segmentor('pspnet_r50-d8')
    model = model_of(EAGER, objectives, student, student, 'mmseg')
    plugins.train(model, tiny.segmentation_data(), steps=1)
    assert compiled_in(model.student) == set()


@pytest.mark.parametrize('option', ['yes', 3])
def test_bad_options(option):
    with pytest.raises(ValueError, match=r'^compile must be True or False or a dict'):
        model_of(option)


GRAPHS = dict(mode='reduce-overhead')


@pytest.fixture
def marked(monkeypatch):
    """How often a step of CUDA graphs began."""
    notes = []
    monkeypatch.setattr(torch.compiler, 'cudagraph_mark_step_begin', lambda: notes.append(1))
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda *_, **__: None)
    return notes


@pytest.mark.parametrize('owner', ['student', 'teacher'])
def test_each_call_begins_a_step_of_graphs(owner, marked):
    teacher = tiny.teacher_of(TEACHER, compile=GRAPHS if owner == 'teacher' else False)
    model = tiny.distiller(STUDENT, teacher, OBJECTIVES, compile=GRAPHS if owner == 'student' else False)
    plugins.train(model, tiny.detection_data(), steps=2)
    assert len(marked) == 2
    model.eval()
    with torch.no_grad():
        model.test_step(tiny.detection_data())
    assert len(marked) == 3


def test_without_graphs_no_step_of_them_begins(marked):
    plugins.train(model_of(EAGER), tiny.detection_data(), steps=1)
    assert marked == []


def test_gradients_that_are_added_to_are_moved_before_graphs_run_again(marked):
    model = model_of(GRAPHS)
    tiny.total(tiny.step(model, tiny.detection_data())).backward()
    before = {name: one.grad for name, one in model.student.named_parameters() if one.grad is not None}
    assert before
    begin_graphs(model.student)
    for name, one in model.student.named_parameters():
        if name in before:
            assert torch.equal(one.grad, before[name])
            assert one.grad.data_ptr() != before[name].data_ptr()
