"""Teachers beside the student: what is waited for, and which tensors are marked; numbers are in tests/gpu."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import InstanceData

from kddense.distiller import side_stream
from kddense.distiller.plan import Plan
from kddense.distiller.side_stream import SideStream, tensors_in
from kddense.exchange import Answer, Batch, MapOpinion
from kddense.teachers import build_teacher

from ..helpers import plugins, tiny

STUDENT, TEACHER = tiny.segmentor('pspnet_r50-d8'), tiny.segmentor('pspnet_r50-d8', width=16)
OBJECTIVES = dict(cwd=dict(type='kddense.CWDObjective'))


def model_of(**options):
    return tiny.distiller(STUDENT, TEACHER, OBJECTIVES, 'mmseg', **options)


class FakeStream:
    """Notes what is asked of it."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def wait_stream(self, other):
        self.notes.append(f'{self.name} waits for {other.name}')

    def __enter__(self):
        self.notes.append(f'on {self.name}')

    def __exit__(self, *_):
        self.notes.append(f'off {self.name}')


@pytest.fixture
def notes(monkeypatch):
    """What happens on two streams that are none."""
    found = []
    main = FakeStream('main', found)
    cuda = SimpleNamespace(
        Stream=lambda device: FakeStream('side', found),
        current_stream=lambda device: main,
        stream=lambda stream: stream,
    )
    monkeypatch.setattr(side_stream, 'torch', SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(side_stream, 'waits', lambda device: True)
    monkeypatch.setattr(
        torch.Tensor, 'record_stream', lambda tensor, stream: found.append(f'{stream.name} has {tuple(tensor.shape)}')
    )
    return found


def answer(batch):
    return {'teacher': Answer(taps={'a': torch.zeros(2), 'b': [torch.zeros(3), (torch.zeros(4),)]})}


def test_each_stream_waits_for_the_other_and_keeps_what_it_uses(notes):
    side = SideStream(True)
    answers = side.ask(answer, Batch(torch.zeros(1, 3, 8, 8), []))
    assert notes == ['side waits for main', 'side has (1, 3, 8, 8)', 'on side', 'off side']
    notes.clear()
    assert side.joined(answers) is answers
    assert notes == ['main waits for side', 'main has (2,)', 'main has (3,)', 'main has (4,)']
    notes.clear()
    side.ask(answer, Batch(torch.zeros(1), []))
    assert notes[0] == 'side waits for main'  # the same stream in each step


def test_a_step_waits_just_before_it_compares(notes, monkeypatch):
    for name in ('ask_early', 'learn', 'ask_late', 'compare'):
        monkeypatch.setattr(Plan, name, telling(getattr(Plan, name), name, notes))
    tiny.step(model_of(side_stream=True), tiny.segmentation_data())
    order = [note for note in notes if not note.startswith(('side has', 'main has'))]
    assert order[:5] == ['side waits for main', 'on side', 'ask_early', 'off side', 'learn']
    assert order[5:] == ['ask_late', 'main waits for side', 'compare']
    assert any(note.startswith('side has') for note in notes)
    assert any(note.startswith('main has') for note in notes)


def telling(method, name, notes):
    def told(*args):
        notes.append(name)
        return method(*args)

    return told


def test_without_it_nothing_waits(notes):
    tiny.step(model_of(), tiny.segmentation_data())
    assert notes == []


def test_on_a_cpu_it_changes_nothing():
    data = tiny.segmentation_data()
    torch.manual_seed(0)
    plain = plugins.train(model_of(), data)
    torch.manual_seed(0)
    model = model_of(side_stream=True)
    assert plugins.train(model, data) == plain
    assert copy.deepcopy(model).side_stream.is_on
    plugins.assert_contracts(model, STUDENT, 'mmseg')


def test_all_tensors_of_an_answer_are_found():
    one = iter(torch.arange(20.0).unbind())
    values = Answer(
        taps={'a': next(one), 'b': [next(one), (next(one), {'c': next(one)})], 'none': None, 'text': 'x'},
        opinions={'pixels': [MapOpinion(logits=next(one), feature=next(one))]},
        gradients={'g': [next(one)]},
        batch=Batch(next(one), [InstanceData(metainfo=dict(kept=next(one)), boxes=next(one)[None])]),
        losses={'loss': [next(one)]},
        teacher=torch.nn.Linear(2, 2),
    )
    assert sorted(float(tensor) for tensor in tensors_in([values])) == list(range(11))


def test_boxes_of_mmdet_are_found():
    from mmdet.structures.bbox import HorizontalBoxes

    boxes = HorizontalBoxes(torch.ones(1, 4))
    assert [tuple(tensor.shape) for tensor in tensors_in(InstanceData(bboxes=boxes))] == [(1, 4)]


@pytest.mark.parametrize(
    'options', [dict(mode='reduce-overhead'), dict(backend='cudagraphs'), dict(options={'triton.cudagraphs': True})]
)
def test_graphs_of_a_teacher_are_refused_beside_the_student(options):
    teacher = tiny.teacher_of(TEACHER, 'mmseg', compile=options)
    with pytest.raises(ValueError, match=r"^side_stream: the teacher 'teacher' replays CUDA graphs"):
        tiny.distiller(STUDENT, teacher, OBJECTIVES, 'mmseg', side_stream=True)
    cached = build_teacher(dict(teacher, type='kddense.CachedTeacher', folder='nowhere'), 'teacher')
    with pytest.raises(ValueError, match=r"^side_stream: the teacher 'a' replays CUDA graphs"):
        side_stream.check_side_stream({'a': cached})


def test_other_compiling_is_not_refused():
    teacher = tiny.teacher_of(TEACHER, 'mmseg', compile=dict(mode='max-autotune-no-cudagraphs'))
    model = tiny.distiller(STUDENT, teacher, OBJECTIVES, 'mmseg', side_stream=True)
    assert model.side_stream.is_on


def test_it_is_true_or_false():
    with pytest.raises(ValueError, match='^side_stream must be'):
        model_of(side_stream='yes')
