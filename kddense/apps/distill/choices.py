"""Which recipe for which model, and what was measured of it: what ``kddense distill`` chooses by.

Gains are read from the records under ``configs/``. ``docs/which-method.md`` tells the same; a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Collection

from .choice import DENSE, DEPTH, DETR, GFL, MASK_QUERIES, ONE_STAGE, SEGMENTOR, TWO_STAGE, Choice, Measured
from .rows import FCOS, NYU, bccd, bccd_tenth, camvid, camvid_tenth, faster_rcnn

ANY = ('at', 'nst', 'ofd', 'fsp', 'ab', 'rkd', 'darkrank', 'cosine', 'foundation', 'foundation_levels')

# For each family the first that fits is chosen. A recipe has one line for the families in which it was measured, and one for
# the others.
CHOICES = (
    Choice(
        'chen2017',
        (TWO_STAGE,),
        (Measured('Faster R-CNN', 'chen2017/measured_bccd.json', 'chen_r18_r18-w16_fpn_bccd.py'),),
        of_strangers=(Measured('Faster R-CNN', 'chen2017/measured_bccd_lite2.json', 'chen_lite2_r18-w16_fpn_bccd.py'),),
    ),
    # FGFI gained more from a stranger, but a short training would end before its term begins.
    Choice('dist', (TWO_STAGE,), (faster_rcnn('dist'),), 'compares classes alone'),
    Choice(
        'fgfi',
        (TWO_STAGE,),
        note='compares pyramids alone, near objects; begins at iteration 400',
        of_strangers=(faster_rcnn('fgfi'),),
    ),
    Choice(
        'pkd_one_stage',
        DENSE,
        (
            Measured('RetinaNet', 'pkd/measured_bccd.json', 'pkd_r18_r18-w16_retinanet_fpn_bccd.py'),
            Measured('FCOS', FCOS, 'pkd/pkd_r18_r18-w16_fcos_fpn_bccd.py'),
        ),
        'compares pyramids alone, so that the teacher may have another dense head',
    ),
    Choice('cankd', (SEGMENTOR,), camvid('cankd'), 'compares maps of features, of any backbone'),
    Choice('ofd', (SEGMENTOR,), camvid('ofd'), 'compares stages of convolutional backbones'),
    Choice('pkd', (SEGMENTOR,), camvid('pkd'), 'compares pyramids alone: for segmentors that have one'),
    Choice(
        'skd',
        (SEGMENTOR,),
        (Measured('semantic FPN', 'skd/measured_camvid_again.json', 'skd_lite2_r18-w16_fpn_camvid.py'),),
        'with a discriminator, which has an optimiser of its own',
        with_unlabelled=camvid_tenth('skd'),
    ),
    Choice('cwd', (SEGMENTOR,), camvid('cwd'), with_unlabelled=camvid_tenth('cwd')),
    Choice('dist', (SEGMENTOR,), camvid('dist')),
    Choice(
        'hinton',
        (SEGMENTOR,),
        camvid('hinton'),
        'soft classes of each pixel',
        with_unlabelled=camvid_tenth('hinton'),
    ),
    Choice('logit_std', (SEGMENTOR,), camvid('logit_std', 'logit-std'), 'soft classes of each pixel'),
    Choice(
        'ail_depth',
        (DEPTH,),
        (Measured('ResNet-18', NYU, 'ail/ail_r18_r18-w8_depth_nyuv2.py'),),
        'nothing was shown to help depth estimators yet',
    ),
    Choice('pkd', (TWO_STAGE,), note='compares pyramids alone'),
    Choice(
        'chen2017_dense',
        DENSE,
        (Measured('FCOS', FCOS, 'chen2017/chen_r18_r18-w16_fcos_fpn_bccd.py'),),
        of_strangers=(
            Measured('FCOS', 'skd/measured_bccd_lite2.json', 'chen2017/chen_lite2_r18-w16_fcos_fpn_bccd.py'),
        ),
        with_unlabelled=bccd_tenth('chen2017', 'chen'),
    ),
    Choice('reviewkd', DENSE, bccd('reviewkd'), with_unlabelled=bccd_tenth('reviewkd')),
    Choice('ail_boxes', DENSE, (Measured('FCOS', FCOS, 'ail/ail_r18_r18-w16_fcos_fpn_bccd.py'),)),
    Choice('ail_boxes', (TWO_STAGE,)),
    Choice(
        'hinton_dense',
        DENSE,
        (Measured('GFL', 'ld/measured_bccd.json', 'hinton/hinton_r18_r18-w16_gfl_fpn_bccd.py'),),
        with_unlabelled=bccd_tenth('hinton'),
    ),
    Choice(
        'ld',
        (GFL,),
        (Measured('GFL', 'ld/measured_bccd.json', 'ld_r18_r18-w16_gfl_fpn_bccd.py'),),
        'the teacher is a GFL too',
    ),
    Choice('dkd', DENSE, bccd('dkd')),
    Choice(
        'skd_detection',
        DENSE,
        (Measured('FCOS', 'skd/measured_bccd_lite2.json', 'skd_lite2_r18-w16_fcos_fpn_bccd.py'),),
        with_unlabelled=bccd_tenth('skd'),
    ),
    Choice('crd', DENSE, bccd('crd')),
    Choice('fbkd', DENSE, bccd('fbkd')),
    Choice(
        'skd_depth',
        (DEPTH,),
        (Measured('ResNet-18', NYU, 'skd_r18_r18-w8_depth_nyuv2.py'),),
        'with a discriminator, which has an optimiser of its own',
    ),
    Choice('dist', DENSE),
    Choice('dkd', (TWO_STAGE, SEGMENTOR)),
    Choice(
        'at_gradient',
        (SEGMENTOR,),
        camvid('at', 'at-gradient', 'measured_camvid_gradient.json'),
        'differentiates twice: twice the time of a step',
    ),
    Choice('at_gradient', (*DENSE, DEPTH), note='differentiates twice: twice the time of a step'),
    Choice('ofd_deeplabv3plus', (SEGMENTOR,), note='DeepLabV3+ alone'),
    *(Choice(recipe, (TWO_STAGE, *DENSE, DEPTH)) for recipe in ('cankd', 'ifvd')),
    *(Choice(recipe, (TWO_STAGE, SEGMENTOR, DEPTH)) for recipe in ('crd', 'fbkd', 'reviewkd')),
    Choice('fgd', (TWO_STAGE,)),
    Choice('fgd_one_stage', DENSE, note='compares pyramids alone; RetinaNet, ATSS, GFL'),
    Choice('fgd_anchor_free', (ONE_STAGE,), bccd('fgd'), 'compares pyramids alone; FCOS and its kin'),
    Choice('crosskd', (ONE_STAGE,), note='RetinaNet and ATSS; the teacher has the same head'),
    Choice('crosskd_fcos', (ONE_STAGE,), bccd('crosskd'), 'FCOS alone; the teacher has the same head'),
    Choice('crosskd_gfl', (GFL,), note='the teacher is a GFL too'),
    Choice('mgd', (TWO_STAGE,)),
    Choice('mgd_one_stage', DENSE, bccd('mgd'), 'compares pyramids alone', with_unlabelled=bccd_tenth('mgd')),
    Choice('mgd_segmentation', (SEGMENTOR,), note='with CWD of the logits', with_unlabelled=camvid_tenth('mgd')),
    Choice('defeat', (TWO_STAGE,)),
    Choice('defeat_one_stage', DENSE, bccd('defeat'), 'compares pyramids alone'),
    Choice('fgfi', DENSE, note='compares pyramids alone, of detectors with anchors'),
    Choice('cosine', DENSE, bccd('cosine'), 'compares the last stages of backbones'),
    Choice('gid', DENSE, bccd('gid'), 'the teacher has the same head', with_unlabelled=bccd_tenth('gid')),
    Choice('cirkd', (SEGMENTOR,), camvid('cirkd'), with_unlabelled=camvid_tenth('cirkd')),
    *(Choice(recipe, (SEGMENTOR,), camvid(recipe)) for recipe in ('ab', 'nst', 'at', 'ifvd', 'fsp')),
    Choice('cirkd', (TWO_STAGE, *DENSE, DEPTH)),
    *(Choice(recipe, (TWO_STAGE, SEGMENTOR), (faster_rcnn(recipe), *camvid(recipe))) for recipe in ('rkd', 'darkrank')),
    Choice(
        'depth_any',
        (DEPTH,),
        (
            Measured(
                'ResNet-18, a tenth of the labels',
                'depth_any/measured_nyuv2_tenth.json',
                'depth-any-unlabelled_lite2_r18-w8_nyuv2_tenth.py',
            ),
        ),
        'with images without a label beside them',
    ),
    Choice(
        'apprentice',
        (SEGMENTOR,),
        (
            Measured(
                'semantic FPN of 4 bits', 'apprentice/measured_camvid.json', 'apprentice_lite2_r18-w16_fpn_camvid.py'
            ),
        ),
        'weights of 4 bits, less those without a teacher',
    ),
    Choice(
        'quantized_distillation',
        (SEGMENTOR,),
        (
            Measured(
                'semantic FPN of 4 bits',
                'quantized_distillation/measured_camvid.json',
                'quantized_lite2_r18-w16_fpn_camvid.py',
            ),
        ),
        'weights of 4 bits, less those without a teacher',
    ),
    *(
        Choice(recipe, (TWO_STAGE, *DENSE), note='weights of 4 bits')
        for recipe in ('apprentice', 'quantized_distillation')
    ),
    Choice(
        'qat',
        DENSE,
        (Measured('FCOS after PKD', 'qat/measured_bccd_distilled.json', 'qat-self_r18-w16_fcos_fpn_bccd.py'),),
        'INT8, less the plain float student',
    ),
    Choice('qat', (TWO_STAGE, *DENSE, SEGMENTOR, DEPTH), note='INT8; begins with a trained student'),
    Choice(
        'detrdistill',
        (DETR,),
        (
            Measured(
                'Deformable DETR', 'detrdistill/measured_bccd.json', 'detrdistill_lite2_r18-w16_deformable-detr_bccd.py'
            ),
        ),
        note='matches predictions, so that the teacher may have other queries',
    ),
    Choice(
        'kd_detr',
        (DETR,),
        (Measured('Deformable DETR', 'kd_detr/measured_bccd.json', 'kd-detr_lite2_r18-w16_deformable-detr_bccd.py'),),
        note='the teacher decodes the same kind of queries; its decoder runs twice',
    ),
    Choice('mask_queries', (MASK_QUERIES,), note='matches masks; those of mmseg are of classes, of mmdet of instances'),
    Choice(
        'masks',
        (TWO_STAGE,),
        (Measured('Mask R-CNN', 'masks/measured_coco128.json', 'masks_lite2_lite0_mask-rcnn_coco128.py'),),
        'masks alone, beside a recipe for boxes: Mask R-CNN and its kin',
    ),
    Choice('stuff', (TWO_STAGE,), note='stuff alone, beside recipes for boxes and masks: Panoptic FPN'),
    Choice('fitnets', (), note='compares backbones alone: the teacher may be of any family', same_family=False),
    *(Choice(recipe, (), same_family=False) for recipe in ANY),
)


def fitting(
    student: str | None,
    teacher: str | None,
    strangers: bool = False,
    lacking: Collection[str] = (),
    unlabelled: bool = False,
) -> list[Choice]:
    """Return what fits a student and a teacher, the best first; a recipe once.

    Args:
        student: The student's family, ``None`` if it is of none that is known.
        teacher: The teacher's.
        strangers: Whether their backbones are of different kinds. What harms such students then stands behind the others
            of the family.
        lacking: Recipes for their family that these two cannot follow.
        unlabelled: Whether images without labels stand beside. What was seen to help with them comes first, by its gain.
    """
    fit: dict[str, Choice] = {}
    for choice in CHOICES:
        if choice.fits(student, teacher) and choice.recipe not in lacking:
            fit.setdefault(choice.recipe, choice)

    def order(choice: Choice) -> tuple[bool, float, bool]:
        gain = choice.gain_with_unlabelled if unlabelled else 0.0
        return not choice.same_family, -gain, strangers and choice.harms_by_strangers

    return sorted(fit.values(), key=order)


def choose(
    recipe: str | None,
    student: str | None,
    teacher: str | None,
    strangers: bool = False,
    lacking: Collection[str] = (),
    unlabelled: bool = False,
) -> Choice:
    """Return the recipe that a student is taught by.

    Args:
        recipe: Its name, or the path of a file; ``None`` to take the first that fits and of which more is known than that
            it can be built. What is named may be lacking: building then says why it does not fit.
        student: The student's family, ``None`` if it is of none that is known.
        teacher: The teacher's.
        strangers: Whether their backbones are of different kinds.
        lacking: Recipes for their family that these two cannot follow.
        unlabelled: Whether images without labels stand beside.

    Raises:
        ValueError: If it does not fit, or nothing does.
    """
    fit = fitting(student, teacher, strangers, lacking if recipe is None else (), unlabelled)
    if recipe is None:
        if fit[0].same_family:
            return fit[0]
        raise ValueError(
            f'no recipe is known for {_a(student)} with {_a(teacher)} for a teacher: take a teacher of the same family, '
            f'or compare their backbones alone with --recipe {", ".join(one.recipe for one in fit)}'
        )
    if recipe not in {choice.recipe for choice in CHOICES}:
        return Choice(recipe, (), same_family=False)
    choice = next((choice for choice in fit if choice.recipe == recipe), None)
    if choice is None:
        raise ValueError(
            f'the recipe {recipe} does not fit {_a(student)} with {_a(teacher)} for a teacher; '
            f'these do: {", ".join(one.recipe for one in fit)}'
        )
    return choice


def _a(family: str | None) -> str:
    return f'a {family}' if family else 'a model of a family that kddense does not know'
