"""What two models let a recipe compare: masks beside boxes, queries, layers of decoders; and what is left out."""

from __future__ import annotations

import dataclasses

import pytest
from mmengine.config import Config

from kddense.apps.distill.choice import DETR, MASK_QUERIES
from kddense.apps.distill.choices import choose
from kddense.apps.distill.models import Looked, family_of
from kddense.apps.distill.pairs import Fit, fit, obstacles, stand_beside

from ...helpers import mask_models, tiny, transformers
from ...helpers.transformers import detr

DEEP = {'decoder.num_layers': 3}


def looked(config, scope='mmdet'):
    model = tiny.build(config, scope=scope)
    transformers.draw_levels(model)
    return Looked(Config(), model, family_of(model))


def chosen(student, teacher):
    """Return the recipe, and what lets it fit."""
    lacking = obstacles(student, teacher)
    recipe = choose(None, student.family, teacher.family, lacking=lacking).recipe
    found = fit(recipe, student, teacher)
    stand_beside(found, student, lacking)
    return recipe, found


@pytest.mark.parametrize('family', transformers.FAMILY)
def test_each_detector_with_queries_is_taught_by_its_like(family):
    student, teacher = looked(detr(family)), looked(detr(family, 16))
    assert student.family == DETR
    assert chosen(student, teacher) == ('detrdistill', Fit())
    assert fit('kd_detr', student, looked(detr(family, 16, DEEP))) == Fit()


def test_a_teacher_with_other_queries_teaches_by_its_predictions():
    recipe, found = chosen(looked(detr('deformable')), looked(detr('dino', 16, DEEP)))
    assert recipe == 'detrdistill'
    assert found.changes == dict(detrdistill=dict(layers='last'), query_prior=dict(weight=0))
    assert (
        'the decoder: as of DeformableDETR in the student, as of DINO in the teacher' in found.left_out['query_prior']
    )


def test_layers_are_matched_where_there_are_as_many():
    student = looked(detr('dab'))
    assert fit('detrdistill', student, looked(detr('dab', 16))) == Fit()
    changed = {name: dict(layers='last') for name in ('detrdistill', 'query_prior')}
    assert fit('detrdistill', student, looked(detr('dab', 16, DEEP))) == Fit(changed)


def test_encoders_with_other_levels_are_not_compared():
    found = fit('detrdistill', looked(detr('deformable')), looked(detr('dab', 16)))
    assert set(found.left_out) == {'query_prior', 'target_aware'}
    assert '`levels`' in found.left_out['target_aware']


def test_masks_by_queries():
    student = looked(mask_models.mask2former())
    deep = tiny.edit(mask_models.mask2former(), {'panoptic_head.transformer_decoder.num_layers': 3})
    assert student.family == MASK_QUERIES
    assert chosen(student, student) == ('mask_queries', Fit())
    assert chosen(student, looked(deep)) == ('mask_queries', Fit(dict(mask_queries=dict(layers='last'))))
    assert looked(mask_models.mask_segmentor(), 'mmseg').family == MASK_QUERIES


MASKS = dict(masks=dict(type='kddense.MaskObjective'))


def test_masks_stand_beside_boxes():
    student = looked(tiny.mask_rcnn())
    assert chosen(student, looked(tiny.mask_rcnn(width=16))) == ('chen2017', Fit(MASKS, ['masks']))
    panoptic = looked(mask_models.panoptic_fpn())
    _, found = chosen(panoptic, panoptic)
    assert found.beside == ['masks', 'stuff']
    assert set(found.changes) >= {'masks', 'stuff'}


@pytest.mark.parametrize(
    'teacher, reason',
    [
        (tiny.faster_rcnn, r'teacher \(FasterRCNN\) has no mask head'),
        (lambda: tiny.mask_rcnn({'roi_head.mask_head.upsample_cfg.type': None}), 'give both the same size'),
    ],
    ids=['no masks', 'masks of another size'],
)
def test_masks_that_cannot_be_compared_are_left_out_and_told(teacher, reason):
    recipe, found = chosen(looked(tiny.mask_rcnn()), looked(teacher()))
    assert recipe == 'chen2017'
    assert not found.beside
    assert list(found.left_out) == ['masks']
    with pytest.raises(ValueError, match=reason):
        raise ValueError(found.left_out['masks'])


def test_masks_of_chosen_classes_are_compared():
    two = {f'roi_head.{head}.num_classes': 2 for head in ('bbox_head', 'mask_head')}
    student, teacher = looked(tiny.mask_rcnn(two)), looked(tiny.mask_rcnn())
    assert chosen(student, teacher)[1].beside == []
    assert chosen(student, dataclasses.replace(teacher, class_map=[2, 0]))[1].beside == ['masks']


def test_of_what_the_student_has_not_nothing_is_told():
    assert chosen(looked(tiny.faster_rcnn()), looked(tiny.mask_rcnn())) == ('chen2017', Fit())
