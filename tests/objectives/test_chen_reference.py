"""Chen et al.'s objectives on real detectors, against a reference in plain loops that knows nothing of kddense.

The reference is told what mmdet's own samplers drew, reads the raw outputs of both networks box by box, and does the
paper's sums in Python floats. The teacher's outputs come from calling its parts by hand on what its own data
preprocessor makes of the raw images.
"""

import copy
import math

import pytest
import torch

from ..helpers import tiny

# --- the paper, in loops ----------------------------------------------------------------------------------------------


def softmax(row, temperature):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def soft_loss(student_rows, teacher_rows, background_weight, temperature):
    """Rows of probabilities, background last: the mean of -T² Σ w P_t log P_s."""
    total = 0.0
    for student, teacher in zip(student_rows, teacher_rows, strict=True):
        for column, (own, other) in enumerate(zip(student, teacher, strict=True)):
            weight = background_weight if column == len(student) - 1 else 1.0
            total -= weight * other * math.log(own) * temperature**2
    return total / len(student_rows)


def squared_error(first, second):
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))


def box_loss(boxes, count, margin, bounded):
    """``boxes`` holds (student, teacher, target) of each positive; also return how many the gate let pass."""
    total, passed = 0.0, 0
    for student, teacher, target in boxes:
        if not bounded:
            total += squared_error(student, teacher)
        elif squared_error(student, target) + margin > squared_error(teacher, target):
            total += squared_error(student, target)
            passed += 1
    return total / count, passed


def encode(prior, truth, stds):
    """Box deltas as in R-CNN, divided by the coder's standard deviations."""
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    dx = ((truth[0] + truth[2]) - (prior[0] + prior[2])) / 2 / width
    dy = ((truth[1] + truth[3]) - (prior[1] + prior[3])) / 2 / height
    dw = math.log((truth[2] - truth[0]) / width)
    dh = math.log((truth[3] - truth[1]) / height)
    return [delta / std for delta, std in zip((dx, dy, dw, dh), stds, strict=True)]


# --- what mmdet did -----------------------------------------------------------------------------------------------------


class Witness:
    """Notes what a student's samplers drew and what its heads said during a step."""

    def __init__(self, student, monkeypatch):
        self.rpn_samplings, self.rpn_maps = [], []
        self.roi_samplings, self.roi_outputs = [], []
        self._note(monkeypatch, student.rpn_head.sampler, 'sample', self.rpn_samplings)
        self._note(monkeypatch, student.roi_head, '_bbox_forward', self.roi_outputs)
        samplers = student.roi_head.bbox_sampler
        for sampler in samplers if isinstance(samplers, list) else [samplers]:
            self._note(monkeypatch, sampler, 'sample', self.roi_samplings)
        student.rpn_head.register_forward_hook(lambda module, args, output: self.rpn_maps.append(output))

    def _note(self, monkeypatch, owner, method, into):
        original = getattr(owner, method)

        def noted(*args, **kwargs):
            result = original(*args, **kwargs)
            into.append((args, result) if method == '_bbox_forward' else result)
            return result

        monkeypatch.setattr(owner, method, noted)


def anchors_of(maps, generator):
    """Return (box, (level, y, x, anchor)) of every anchor of one image, from the settings of its generator."""
    anchors = []
    for level, (cls_map, (stride, _)) in enumerate(zip(maps, generator.strides, strict=True)):
        shapes = [
            (stride * scale * math.sqrt(1 / ratio), stride * scale * math.sqrt(ratio))
            for ratio in generator.ratios.tolist()
            for scale in generator.scales.tolist()
        ]
        for y in range(cls_map.shape[-2]):
            for x in range(cls_map.shape[-1]):
                for anchor, (w, h) in enumerate(shapes):
                    box = (stride * x - w / 2, stride * y - h / 2, stride * x + w / 2, stride * y + h / 2)
                    anchors.append((box, (level, y, x, anchor)))
    return anchors


def place_of(prior, anchors):
    box, place = min(anchors, key=lambda anchor: squared_error(anchor[0], prior))
    assert squared_error(box, prior) < 1e-4
    return place


def objectness(maps, image, place, per_cell, temperature):
    """Return (object, background) probabilities at one anchor of an RPN, sigmoid or softmax."""
    level, y, x, anchor = place
    cell = maps[level][image, :, y, x].tolist()
    columns = len(cell) // per_cell
    if columns == 1:
        probability = 1 / (1 + math.exp(-cell[anchor] / temperature))
        return [probability, 1 - probability]
    return softmax(cell[2 * anchor : 2 * anchor + 2], temperature)


def rpn_reference(witness, teacher_maps, head, options):
    (cls_maps, box_maps), (teacher_cls, teacher_box) = witness.rpn_maps[0], teacher_maps
    anchors = anchors_of(cls_maps, head.prior_generator)
    per_cell = head.num_base_priors
    student_rows, teacher_rows, boxes = [], [], []
    for image, sampling in enumerate(witness.rpn_samplings):
        for prior in [*sampling.pos_priors.tolist(), *sampling.neg_priors.tolist()]:
            place = place_of(prior, anchors)
            student_rows.append(objectness(cls_maps, image, place, per_cell, options['temperature']))
            teacher_rows.append(objectness(teacher_cls, image, place, per_cell, options['temperature']))
        for prior, truth in zip(sampling.pos_priors.tolist(), sampling.pos_gt_bboxes.tolist(), strict=True):
            level, y, x, anchor = place_of(prior, anchors)
            own, other = (
                maps[level][image, 4 * anchor : 4 * anchor + 4, y, x].tolist() for maps in (box_maps, teacher_box)
            )
            boxes.append((own, other, encode(prior, truth, (1, 1, 1, 1))))
    return finish(student_rows, teacher_rows, boxes, options)


def roi_reference(samplings, student_output, teacher_output, stds, options):
    """``*_output`` holds class logits and deltas of the sampled RoIs, positives first, image by image."""
    student_rows, teacher_rows = ([softmax(row, options['temperature']) for row in output['cls_score'].tolist()]
                                  for output in (student_output, teacher_output))  # fmt: skip
    boxes, row = [], 0
    for sampling in samplings:
        truths = zip(sampling.pos_priors.tolist(), sampling.pos_gt_bboxes.tolist(), sampling.pos_gt_labels.tolist(),
                     strict=True)  # fmt: skip
        for offset, (prior, truth, label) in enumerate(truths):
            own, other = (deltas_of(output['bbox_pred'][row + offset].tolist(), label)
                          for output in (student_output, teacher_output))  # fmt: skip
            boxes.append((own, other, encode(prior, truth, stds)))
        row += len(sampling.pos_priors) + len(sampling.neg_priors)
    assert row == len(student_rows)
    return finish(student_rows, teacher_rows, boxes, options)


def deltas_of(row, label):
    return row if len(row) == 4 else row[4 * label : 4 * label + 4]


def finish(student_rows, teacher_rows, boxes, options):
    soft = soft_loss(student_rows, teacher_rows, options['background_weight'], options['temperature'])
    box, passed = box_loss(boxes, len(student_rows), options['margin'], options['bounded'])
    return dict(loss_cls=(1 - options['mu']) * soft, loss_bbox=options['nu'] * box, passed=passed, positives=len(boxes))


# --- the comparison -----------------------------------------------------------------------------------------------------

DEFAULTS = dict(mu=0.5, nu=0.5, background_weight=1.5, temperature=1.0, margin=0.0, bounded=True)
OTHER_EYES = {
    'data_preprocessor.mean': [100.0, 110.0, 120.0],
    'data_preprocessor.std': [50.0, 60.0, 70.0],
    'data_preprocessor.bgr_to_rgb': False,
    'data_preprocessor.pad_size_divisor': 64,
}
SIZES = ((64, 90), (48, 60))


def run(
    student, teacher, monkeypatch, boxes=(tiny.BOXES, tiny.BOXES[1:]), masks=False, kinds=('rpn', 'roi'), **options
):
    """Run one step; return its losses and the reference's, by objective and stage."""
    types = dict(rpn='kddense.ChenRPNObjective', roi='kddense.ChenRoIObjective')
    objectives = {kind: dict(type=types[kind], **options) for kind in kinds}
    model = tiny.distiller(student, teacher, objectives)
    tiny.shake(model.student, seed=3)
    data = tiny.detection_data(SIZES, boxes, masks)
    witness = Witness(model.student, monkeypatch)
    torch.manual_seed(1)
    losses = tiny.step(model, data)

    options = {**DEFAULTS, **options}
    taught = model.teachers['teacher'].model
    own = taught.data_preprocessor(copy.deepcopy(data), False)['inputs']
    expected = {}
    with torch.no_grad():
        features = taught.extract_feat(own)
        if 'rpn' in kinds:
            maps = taught.rpn_head(features)
            expected['rpn'] = rpn_reference(witness, maps, model.student.rpn_head, options)
        images = len(SIZES)
        weights = getattr(model.student.roi_head, 'stage_loss_weights', [1.0])
        for stage, (args, output) in enumerate(witness.roi_outputs):
            cascade = len(args) == 3
            teacher_output = taught.roi_head._bbox_forward(*([stage] if cascade else []), features, args[-1])
            samplings = witness.roi_samplings[images * stage : images * (stage + 1)]
            stds = (0.1, 0.1, 0.2, 0.2) if not cascade else [s / (stage + 1) for s in (0.1, 0.1, 0.2, 0.2)]
            if cascade and stage == 2:
                stds = (0.033, 0.033, 0.067, 0.067)
            one = roi_reference(samplings, output, teacher_output, stds, options)
            one.update({key: weights[stage] * one[key] for key in ('loss_cls', 'loss_bbox')})
            expected[f'roi.s{stage}' if cascade else 'roi'] = one
    return losses, expected


def check(losses, expected):
    for name, one in expected.items():
        for key in ('loss_cls', 'loss_bbox'):
            got = losses[f'distill.{name}.{key}'].item()
            assert got == pytest.approx(one[key], rel=1e-4, abs=1e-7), f'{name}.{key}'


SOFTMAX_RPN = {'rpn_head.loss_cls.use_sigmoid': False}
AGNOSTIC = {'roi_head.bbox_head.reg_class_agnostic': True}
DECODED = {
    'rpn_head.reg_decoded_bbox': True,
    'rpn_head.loss_bbox': dict(type='IoULoss', loss_weight=1.0),
    'roi_head.bbox_head.reg_decoded_bbox': True,
    'roi_head.bbox_head.loss_bbox': dict(type='GIoULoss', loss_weight=1.0),
}

CASES = {
    'one logit in both RPNs, a box per class in both': ((), (), {}),
    'two logits in both RPNs': ((SOFTMAX_RPN,), (SOFTMAX_RPN,), {}),
    'two logits in the student only': ((SOFTMAX_RPN,), (), {}),
    'two logits in the teacher only': ((), (SOFTMAX_RPN,), {}),
    'one box for all classes in both': ((AGNOSTIC,), (AGNOSTIC,), {}),
    'one box for all classes in the student': ((AGNOSTIC,), (), {}),
    'one box for all classes in the teacher': ((), (AGNOSTIC,), {}),
    'losses on decoded boxes in the student': ((DECODED,), (), {}),
    'losses on decoded boxes in both': ((DECODED,), (DECODED,), {}),
    'mu, nu and the background': ((), (), dict(mu=0.8, nu=0.25, background_weight=3.0)),
    'only the soft classes': ((), (), dict(mu=0.0, background_weight=1.0)),
    'a temperature': ((SOFTMAX_RPN,), (), dict(temperature=3.0)),
    'a margin': ((), (), dict(margin=0.5)),
    'imitated boxes': ((), (), dict(bounded=False)),
}


@pytest.mark.parametrize('case', CASES)
def test_faster_rcnn(case, monkeypatch):
    student, teacher, options = CASES[case]
    losses, expected = run(
        tiny.faster_rcnn(*student), tiny.faster_rcnn(*teacher, OTHER_EYES, width=16, fpn=24), monkeypatch, **options
    )
    check(losses, expected)
    assert all(one['positives'] > 1 for one in expected.values())
    if not options:
        passed, positives = (sum(one[key] for one in expected.values()) for key in ('passed', 'positives'))
        assert 0 < passed < positives, 'the gate should be open for some boxes only'


@pytest.mark.parametrize('boxes', [((), tiny.BOXES), (tiny.BOXES, ()), ((), ())])
def test_images_without_ground_truth(boxes, monkeypatch):
    losses, expected = run(tiny.faster_rcnn(), tiny.faster_rcnn(OTHER_EYES, width=16), monkeypatch, boxes)
    check(losses, expected)
    if boxes == ((), ()):
        assert expected['roi']['loss_bbox'] == losses['distill.roi.loss_bbox'] == 0
    tiny.total(losses).backward()


def test_every_stage_of_a_cascade_with_its_weight(monkeypatch):
    losses, expected = run(tiny.cascade_rcnn(), tiny.cascade_rcnn(OTHER_EYES, width=16, fpn=24), monkeypatch)
    assert set(expected) == {'rpn', 'roi.s0', 'roi.s1', 'roi.s2'}
    check(losses, expected)


def test_mask_rcnn(monkeypatch):
    losses, expected = run(tiny.mask_rcnn(), tiny.mask_rcnn(OTHER_EYES, width=16, fpn=24), monkeypatch, masks=True)
    assert 'loss_mask' in losses
    check(losses, expected)


def test_c4(monkeypatch):
    losses, expected = run(
        tiny.c4(), tiny.c4({**OTHER_EYES, 'data_preprocessor.pad_size_divisor': 32}, width=32), monkeypatch
    )
    check(losses, expected)


def test_the_roi_head_of_a_teacher_with_other_strides(monkeypatch):
    losses, expected = run(tiny.faster_rcnn(), tiny.c4(OTHER_EYES, width=32), monkeypatch, kinds=('roi',))
    check(losses, expected)


@pytest.mark.parametrize(
    'config, hard',
    [
        (tiny.faster_rcnn, ['loss_rpn_cls', 'loss_cls']),
        (tiny.cascade_rcnn, ['loss_rpn_cls', 's0.loss_cls', 's1.loss_cls', 's2.loss_cls']),
    ],
)
def test_mu_scales_the_students_own_classification_and_nothing_else(config, hard):
    objectives = dict(
        rpn=dict(type='kddense.ChenRPNObjective', mu=0.25), roi=dict(type='kddense.ChenRoIObjective', mu=0.25)
    )
    model, plain = tiny.distiller(config(), config(), objectives), tiny.build(config())
    losses = []
    for one in (model, plain):
        torch.manual_seed(5)
        losses.append(tiny.step(one, tiny.detection_data()))
    distilled, own = losses
    for key, value in own.items():
        for mixed, before in zip(flat(distilled[key]), flat(value), strict=True):
            torch.testing.assert_close(mixed, before * (0.25 if key in hard else 1), rtol=1e-6, atol=0)


def flat(value):
    return value if isinstance(value, list) else [value]
