"""The classes of a two-stage teacher, chosen and ordered for the student."""

import pytest
import torch

from kddense.exchange import Question, RoISample
from kddense.views import build_view

from ..helpers import tiny


@pytest.mark.parametrize(
    'order, message',
    [
        ([0, 3], 'objectives.it: teacher.class_map must name classes in 0..2, got'),
        ([-1, 0], 'teacher.class_map must name each class once, by name or by index from 0, got'),
    ],
)
def test_a_class_map_beyond_the_classes_of_a_detector(order, message):
    student, teacher = tiny.edit(tiny.faster_rcnn(), {'roi_head.bbox_head.num_classes': 2}), tiny.faster_rcnn()
    with pytest.raises(ValueError, match=f'^{message}'):
        tiny.distiller(
            student, tiny.teacher_of(teacher, class_map=order), dict(it=dict(type='kddense.ChenRoIObjective'))
        )


@pytest.mark.parametrize('agnostic', [False, True])
def test_a_class_map_of_a_detector_is_as_a_teacher_with_its_outputs_permuted(agnostic):
    """The background stays the last class; the box of each RoI is that of the teacher's class for its label."""
    chosen = [2, 0]
    model = tiny.build(tiny.faster_rcnn({'roi_head.bbox_head.reg_class_agnostic': agnostic})).eval()
    tiny.shake(model)
    rois = torch.tensor([[0.0, 4, 4, 40, 44], [0.0, 10, 2, 30, 60], [0.0, 0, 0, 64, 64]])
    sample = RoISample(rois, torch.tensor([0, 2]), torch.tensor([1, 0]), torch.zeros(2, 4))
    question = Question(frozenset(), {'roi': [sample]}, frozenset({'roi'}))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (mapped,) = build_view(model, 'teacher', class_map=chosen).answer(question, images).opinions['roi']
    head = model.roi_head.bbox_head
    with torch.no_grad():
        head.fc_cls.weight.data = head.fc_cls.weight[[2, 0, 3]]
        head.fc_cls.bias.data = head.fc_cls.bias[[2, 0, 3]]
        if not agnostic:
            rows = [8, 9, 10, 11, 0, 1, 2, 3]
            head.fc_reg.weight.data = head.fc_reg.weight[rows]
            head.fc_reg.bias.data = head.fc_reg.bias[rows]
    head.num_classes = 2
    (permuted,) = build_view(model, 'teacher').answer(question, images).opinions['roi']
    assert mapped.logits.shape == (3, 3)
    torch.testing.assert_close(mapped.logits, permuted.logits)
    torch.testing.assert_close(mapped.deltas, permuted.deltas)
