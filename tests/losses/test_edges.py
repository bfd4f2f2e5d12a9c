"""Every loss at its edges: no sample, one, a perfect student, a teacher that rules a class out, NaN, autocast."""

import math

import pytest
import torch

from kddense import losses
from kddense.losses import adversarial

MAPS, ROWS, BOXES, EDGES = (4, 5, 6), (5,), (4,), (4, 9)


def of_two(loss):
    return lambda student, teacher: loss(student, teacher)


def to_target(loss, **options):
    return lambda student, teacher: loss(student, teacher, torch.zeros_like(teacher), **options)


def of_masks(loss):
    """Each image has one box, of a quarter of it."""

    def of_two_maps(student, teacher):
        count, _, height, width = student.shape
        masks = losses.focal_masks([torch.tensor([[0.0, 0, 0.5, 0.5]])] * count, [(1, 1)] * count, (height, width))
        return loss(student, teacher, masks)

    return of_two_maps


def of_queries(compare):
    """Let a row be classes and a box of a query."""

    def loss(student, teacher):
        sides = [(one[:, :5], one[:, 5:].sigmoid()) for one in (student, teacher)]
        return sum(compare(*sides[0], *sides[1]))

    return loss


def shared(*sides):
    return losses.shared_query_distance(*(one[None] for one in sides), torch.ones(1, len(sides[0])))


def where_objects_are(student, teacher):
    """Let a query be like what is in the middle of a map."""
    middle = teacher[:, :, teacher.shape[2] // 2, teacher.shape[3] // 2][:, None]
    mask = losses.target_mask(teacher, middle, torch.ones(len(teacher), 1))
    return losses.target_aware_distance(student, teacher, mask)


# By name: the loss of a student's tensor and a teacher's, and the shape of one sample.
LOSSES = {
    'hint': (of_two(losses.HintLoss()), MAPS),
    'hint l1': (of_two(losses.HintLoss(norm='l1')), MAPS),
    'fitnets': (of_two(losses.HintLoss(mode='fitnets')), MAPS),
    'hinton': (of_two(losses.HintonLoss(temperature=2.0)), ROWS),
    'hinton sigmoid': (of_two(losses.HintonLoss(temperature=2.0, mode='sigmoid')), ROWS),
    'apprentice': (of_two(losses.ApprenticeLoss()), ROWS),
    'apprentice sigmoid': (of_two(losses.ApprenticeLoss('sigmoid')), ROWS),
    'quantized distillation': (of_two(losses.QuantizedDistillationLoss()), ROWS),
    'quantized distillation sigmoid': (of_two(losses.QuantizedDistillationLoss(classes='sigmoid')), ROWS),
    'cwd': (of_two(losses.CWDLoss()), MAPS),
    'target-aware': (where_objects_are, MAPS),
    'pkd': (of_two(losses.PKDLoss()), MAPS),
    'pkd code': (of_two(losses.PKDLoss(mode='code')), MAPS),
    'pixel-wise': (of_two(losses.PixelWiseLoss()), MAPS),
    'pixel-wise, student first': (of_two(losses.PixelWiseLoss(direction='student_teacher')), MAPS),
    'pixel-wise code': (of_two(losses.PixelWiseLoss(mode='code')), MAPS),
    'pixel-wise sigmoid': (of_two(losses.PixelWiseLoss(classes='sigmoid')), MAPS),
    'pixel-wise sigmoid, student first': (
        of_two(losses.PixelWiseLoss(classes='sigmoid', direction='student_teacher')),
        MAPS,
    ),
    'pixel-wise sigmoid code': (of_two(losses.PixelWiseLoss(classes='sigmoid', mode='code')), MAPS),
    'pair-wise': (of_two(losses.PairWiseLoss()), MAPS),
    'pair-wise near': (of_two(losses.PairWiseLoss(granularity=(1, 1), connections=9)), MAPS),
    'pair-wise code': (of_two(losses.PairWiseLoss(pool='max', pool_scale=0.5, detach_norm=True)), MAPS),
    'weighted soft target': (of_two(losses.WeightedSoftTargetLoss()), ROWS),
    'weighted soft target sigmoid': (of_two(losses.WeightedSoftTargetLoss(mode='sigmoid')), ROWS),
    'ld': (of_two(losses.LDLoss()), EDGES),
    'ld code': (of_two(losses.LDLoss(mode='code')), EDGES),
    'bounded': (to_target(losses.BoundedRegressionLoss(), num_sampled=3), BOXES),
    'imitation of boxes': (to_target(losses.BoxImitationLoss(), num_sampled=3), BOXES),
    'attentive imitation': (to_target(losses.AttentiveImitationLoss(), error_range=0.5), BOXES),
    'attentive hint': (
        lambda student, teacher: losses.AttentiveHintLoss()(student, teacher, torch.zeros(len(student)), 0.5),
        MAPS,
    ),
    'log l1': (lambda student, teacher: losses.log_l1(student.exp(), teacher.exp()), (1, 5, 6)),
    'virtual normals': (
        lambda student, teacher: losses.virtual_normal_distance(student.exp(), teacher.exp(), min_distance=0.0),
        (1, 12, 12),
    ),
    'at': (of_two(losses.ATLoss()), MAPS),
    'at paper': (of_two(losses.ATLoss(mode='paper')), MAPS),
    'nst': (of_two(losses.NSTLoss()), MAPS),
    'nst gaussian': (of_two(losses.NSTLoss(kernel='gaussian')), MAPS),
    'rkd': (of_two(losses.RKDLoss()), ROWS),
    'rkd distances': (of_two(losses.RKDLoss(angle=0.0)), ROWS),
    'darkrank': (of_two(losses.DarkRankLoss()), ROWS),
    'darkrank hard': (of_two(losses.DarkRankLoss(mode='hard')), ROWS),
    'ab': (of_two(losses.ABLoss()), MAPS),
    'ofd': (of_two(losses.OFDLoss()), MAPS),
    'reviewkd': (of_two(losses.HierarchicalContextLoss()), MAPS),
    'cirkd': (of_two(losses.CrossImageLoss()), MAPS),
    'cankd': (of_two(losses.InstanceNormalisedLoss()), MAPS),
    'cosine': (of_two(losses.CosineLoss()), MAPS),
    'crosskd': (of_two(losses.QualityFocalDivergenceLoss()), ROWS),
    'mgd': (of_two(losses.MGDLoss()), MAPS),
    'scale and shift': (of_two(losses.ScaleShiftInvariantLoss()), (1, 5, 6)),
    'scale and shift, all pixels': (of_two(losses.ScaleShiftInvariantLoss(trim=0)), (1, 5, 6)),
    'scale and shift, squares': (of_two(losses.ScaleShiftInvariantLoss('least_squares')), (1, 5, 6)),
    'slopes of depth': (of_two(losses.DepthGradientLoss()), (1, 5, 6)),
    'whitened': (of_two(losses.WhitenedLoss()), MAPS),
    'whitened squares': (of_two(losses.WhitenedLoss(beta=None)), MAPS),
    'fgfi': (of_masks(lambda own, other, masks: losses.MaskedImitationLoss()(own, other, masks[0] > 0)), MAPS),
    'defeat': (of_masks(lambda own, other, masks: sum(losses.DecoupledLoss()(own, other, masks[0] > 0))), MAPS),
    'gid features': (of_two(losses.instance_distance), MAPS),
    'gid relations': (of_two(losses.instance_relation), MAPS),
    'fgd': (of_masks(lambda own, other, masks: sum(losses.FGDLoss()(own, other, *masks))), MAPS),
    'dice': (of_two(losses.SoftDiceLoss()), (5, 6)),
    'kd_detr': (of_queries(shared), (9,)),
    'detrdistill': (of_queries(losses.matched_distance), (9,)),
    'detrdistill softmax': (of_queries(lambda *sides: losses.matched_distance(*sides, sigmoid=False)), (9,)),
    'dist': (of_two(losses.DISTLoss()), ROWS),
    'dkd': (lambda student, teacher: losses.DKDLoss()(student, teacher, torch.arange(len(student)) % 4), ROWS),
    'hinton standardised': (of_two(losses.HintonLoss(standardize=True)), ROWS),
    'wasserstein': (of_two(adversarial.wasserstein_discriminator_loss), ()),
    'hinge': (of_two(adversarial.hinge_discriminator_loss), ()),
    'adversarial': (lambda student, teacher: adversarial.adversarial_loss(student), ()),
}
OF_CLASSES = [
    name
    for name in LOSSES
    if name.startswith(('hinton', 'cwd', 'pixel', 'weighted', 'ld', 'dist', 'dkd', 'kd', 'detr'))
]
every = pytest.mark.parametrize('name', LOSSES)


def pair(name, samples):
    shape = (samples, *LOSSES[name][1])
    return torch.randn(shape, requires_grad=True), torch.randn(shape)


@every
def test_no_sample_is_a_zero_that_back_propagates(name):
    student, teacher = pair(name, 0)
    loss = LOSSES[name][0](student, teacher)
    assert loss.shape == ()
    assert loss.item() == 0
    loss.backward()
    assert student.grad.shape == student.shape


@every
def test_one_sample_is_finite(name):
    student, teacher = pair(name, 1)
    loss = LOSSES[name][0](student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@every
def test_a_student_that_is_the_teacher_has_a_finite_gradient(name):
    student, _ = pair(name, 2)
    LOSSES[name][0](student, student.detach().clone()).backward()
    assert student.grad.isfinite().all()


@every
def test_constant_maps_have_a_finite_gradient(name):
    shape = (2, *LOSSES[name][1])
    student = torch.full(shape, 0.3, requires_grad=True)
    LOSSES[name][0](student, torch.full(shape, 0.7)).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('name', OF_CLASSES)
def test_a_class_that_the_teacher_rules_out_leaves_the_loss_finite(name):
    student, teacher = pair(name, 2)
    by_last = name.startswith(('ld', 'cwd'))
    (teacher.movedim(-1, 0) if by_last else teacher.movedim(1, 0))[0] = -math.inf
    loss = LOSSES[name][0](student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@every
def test_a_nan_of_the_student_shows(name):
    student, teacher = pair(name, 3)
    with torch.no_grad():
        student[0] = math.nan
    assert LOSSES[name][0](student, teacher).isnan()


@every
def test_autocast_changes_nothing_but_the_inputs(name):
    student, teacher = pair(name, 2)
    student, teacher = (one.detach().bfloat16() for one in (student, teacher))
    torch.manual_seed(0)  # some losses draw
    expected = LOSSES[name][0](student.float(), teacher.float())
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16):
        got = LOSSES[name][0](student.float(), teacher.float())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)


def test_ld_without_anything_to_divide_by():
    student = torch.randn(2, 4, 9, requires_grad=True)
    for factor in (0, 0.0, torch.tensor(0.0)):
        loss = losses.LDLoss()(student, torch.randn(2, 4, 9), weight=torch.zeros(2), avg_factor=factor)
        loss.backward()
        assert loss.item() == 0
    assert student.grad.isfinite().all()


def test_pkd_of_the_code_divides_as_its_authors_do():
    """Their formula, written down: the deviation's unbiased estimate plus 1e-6."""

    def standardised(maps):
        channels = maps.transpose(0, 1).flatten(1)
        return (channels - channels.mean(1, keepdim=True)) / (channels.std(1, keepdim=True) + 1e-6)

    student, teacher = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    for scale in (1.0, 1e-6):  # small deviations tell where the 1e-6 stands
        expected = (standardised(scale * student) - standardised(teacher)).square().mean() / 2
        torch.testing.assert_close(losses.pearson_distance(scale * student, teacher, mode='code'), expected)


def test_the_region_of_the_code_divides_by_the_anchors_area():
    # An anchor of a quarter of the box in its corner: 1 of its area, 1/4 of the union; centres 2 and 2 apart.
    box, anchor = torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    distance = 8 / 128
    for mode, share in (('paper', 0.25), ('code', 1.0)):
        for threshold, inside in ((share - distance + 1e-3, True), (share - distance - 1e-3, False)):
            weight = losses.valuable_region(anchor, box, torch.tensor([threshold]), mode=mode)
            assert weight.item() == (0.25 if inside else 0)


def test_a_discriminator_that_judges_nothing_has_no_penalty():
    score = torch.nn.Linear(3, 1)
    penalty = losses.gradient_penalty(lambda maps: score(maps)[:, 0], torch.zeros(0, 3), torch.zeros(0, 3))
    penalty.backward()
    assert penalty.item() == 0
