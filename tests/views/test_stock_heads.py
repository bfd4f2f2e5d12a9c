"""Heads of mmdet and mmseg by their stock configs, made small: served or refused at build, as the page says.

Where a head is served, a student and a teacher of one set of weights take a step. They must say the same to the last bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmdet.models  # noqa: F401  registers heads
import mmseg.models  # noqa: F401
import pytest
import torch
from mmdet.registry import MODELS as DETECTORS
from mmengine.structures import InstanceData, PixelData
from mmseg.registry import MODELS as SEGMENTORS
from torch import Tensor, nn

from kddense.exchange import Answer
from kddense.objectives import Objective
from kddense.registry import MODELS
from kddense.views import ViewError, build_view

from ..helpers import plugins, stock_models, tiny

PAGE = (Path(__file__).parents[2] / 'docs/models.md').read_text()
ROWS = re.findall(r'^\| [^|]+ \| `(\w+::[^`]+)` \| ([^|]+) \| ([^|]+) \|$', PAGE, re.MULTILINE)
LACKING = dict(re.findall(r'^\| `(\w+)` \| `(\w+)` \| [^|]+ \|$', PAGE, re.MULTILINE))  # detectors by head
LACKING_HERE = {head: detector for head, detector in LACKING.items() if head in DETECTORS.module_dict}
ROOMS = {
    'mmdet': (DETECTORS, ('mmdet.models.dense_heads', 'mmdet.models.roi_heads', 'mmdet.models.seg_heads')),
    'mmseg': (SEGMENTORS, ('mmseg.models.decode_heads',)),
}
PARTS = {
    'rpn': 'rpn_head',
    'roi': 'roi_head',
    'masks': 'roi_head',
    'dense': 'bbox_head',
    'scores': 'bbox_head',
    'mask_queries': 'panoptic_head',
    'stuff': 'semantic_head',
    'predictions': 'bbox_head',
    'queries': 'bbox_head',
    'pixels': 'decode_head',
    'auxiliary': 'auxiliary_head',
}
NO_STEP = (
    'mmdet::detectors/',  # its second backbone overflows without trained norms
    'mmdet::mask2former/',  # tests/objectives/test_mask_queries.py steps all four
    'mmdet::maskformer/',
    'mmseg::mask2former/',
    'mmseg::maskformer/',
    'mmdet::conditional_detr/',  # this and DINO encode positions in 256 numbers: tests/views/test_detr.py steps them
    'mmdet::dino/',
    'mmdet::deformable_detr/',  # what tells its levels apart begins as the memory was: stepped there too
    'mmseg::mobilenet_v3/',  # LRASPPHead pools over 49 x 49 cells: a step takes 20 seconds
)
FUSED = ('semantic_head', 'semantic_roi_extractor', 'glbctx_head')
SAID = ('logits', 'deltas', 'boxes', 'feature')


@MODELS.register_module()
class SameWords(Objective):
    """Whatever two models' heads say of the student's samples, and by how much it differs."""

    def __init__(self, kinds: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kinds = frozenset(kinds)
        self.loss_names = tuple(sorted(kinds))

    def forward(self, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        return {kind: self.difference(seen.opinions[kind], taught.opinions[kind]) for kind in self.loss_names}

    @staticmethod
    def difference(ours: Sequence[Any], theirs: Sequence[Any]) -> Tensor:
        pairs = [
            (getattr(own, name), getattr(other, name))
            for own, other in zip(ours, theirs, strict=True)
            for name in SAID
            if hasattr(own, name)
        ]
        assert pairs
        assert all(own.shape == other.shape for own, other in pairs)
        return torch.stack([(own - other).square().mean() for own, other in pairs if own.numel()]).sum()


def kinds_in(cell: str) -> list[str]:
    return re.findall(r'`(\w+)`', cell)


@pytest.mark.parametrize('path, served, refused', ROWS, ids=[path for path, *_ in ROWS])
def test_a_head_is_served_or_refused_as_the_page_says(path, served, refused):
    package = path.partition('::')[0]
    with stock_models.weights_as_they_come():
        model = stock_models.build(stock_models.small_model(path), package)
    view = build_view(model, 'student')

    for kind in kinds_in(served):
        view.check(kind)
    for kind in kinds_in(refused):
        with pytest.raises(ViewError, match='^student'):
            view.check(kind)


STEPPED = [
    (path, 'student only' in served, kinds_in(served))
    for path, served, _ in ROWS
    if kinds_in(served) and not path.startswith(NO_STEP)
]


@pytest.mark.parametrize('path, as_student, kinds', STEPPED, ids=[path for path, *_ in STEPPED])
def test_what_a_head_says_as_teacher_is_what_it_says_as_student(path, as_student, kinds):
    package = path.partition('::')[0]
    student = stock_models.small_model(path)
    if 'ham_kwargs' in student.get('decode_head', {}):  # else it draws other bases than the teacher
        student.decode_head.ham_kwargs.update(rand_init=False, eval_steps=student.decode_head.ham_kwargs.train_steps)
    kinds = [*kinds, 'auxiliary'] if student.get('auxiliary_head') else kinds
    objectives = dict(same=dict(type='kddense.SameWords', kinds=kinds))
    teacher = student
    if as_student:
        with pytest.raises(ValueError, match='teacher.roi_head fuses an image-wide branch'):
            tiny.distiller(student, teacher, objectives, package)
        teacher = without_fusion(student)
    model = tiny.distiller(student, teacher, objectives, package)
    data = data_for(student, package)

    if not as_student:
        plugins.make_twins(model)
        with torch.no_grad():
            assert all(value < 1e-6 for value in differences(plugins.losses_of(model, data)).values())
        tiny.shake(model.teachers['teacher'].model)
    losses = differences(plugins.losses_of(model, data))
    sum(losses.values()).backward()

    assert all(0 < value < float('inf') for value in losses.values())
    reached = {name.partition('.')[0] for name, one in model.student.named_parameters() if one.grad is not None}
    assert {'backbone', *(PARTS[kind] for kind in kinds)} <= reached


def differences(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in losses.items() if name.startswith('distill.same')}


def without_fusion(student: Any) -> Any:
    teacher = tiny.edit(student)
    for name in FUSED:
        teacher.roi_head.pop(name, None)
    return teacher


def data_for(model: Any, package: str) -> dict[str, Any]:
    """Return a batch with all that heads may ask for: masks, classes and edges of pixels, proposals."""
    if package == 'mmseg':
        data = tiny.segmentation_data()
        for sample in data['data_samples']:
            sample.gt_edge_map = PixelData(data=torch.zeros(1, *sample.img_shape, dtype=torch.long))
        return data
    data = tiny.detection_data(masks='mask_head' in str(model))
    for sample in data['data_samples']:
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *sample.img_shape, dtype=torch.long))
        sample.proposals = InstanceData(bboxes=torch.tensor(tiny.BOXES))
    return data


@pytest.mark.parametrize('head, detector', LACKING_HERE.items(), ids=list(LACKING_HERE))
def test_heads_whose_packages_are_not_here_are_refused(head, detector):
    hollow = of_no_package(detector)
    hollow.bbox_head = of_no_package(head)
    for kind in ('dense', 'scores', 'queries', 'predictions'):
        with pytest.raises(ViewError, match='^student'):
            build_view(hollow, 'student').check(kind)


def of_no_package(name: str) -> Any:
    """Return an object of a class of mmdet whose constructor needs a package; it has nothing but the class."""
    made = object.__new__(DETECTORS.get(name))
    nn.Module.__init__(made)
    return made


@pytest.mark.parametrize('package', list(ROOMS))
def test_no_head_is_forgotten(package):
    registry, rooms = ROOMS[package]
    heads = {one for one in registry.module_dict.values() if getattr(one, '__module__', '').startswith(rooms)}
    assert len(heads) > 30
    named = set().union(*(stock_models.types_of(path) for path, *_ in ROWS if path.startswith(f'{package}::')))
    walked = {parent for name in named if registry.get(name) for parent in registry.get(name).__mro__}

    assert {one.__name__ for one in heads - walked} == (LACKING_HERE.keys() if package == 'mmdet' else set())
