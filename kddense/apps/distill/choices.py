"""Which recipe for which model, and what was measured of it: what ``kddense distill`` chooses by.

``docs/which-method.md`` tells the same; a test keeps this table, that page and the records under ``configs/`` in step.
"""

from __future__ import annotations

from dataclasses import dataclass

TWO_STAGE, ONE_STAGE, GFL, SEGMENTOR, DEPTH = FAMILIES = (
    'two-stage detector',
    'one-stage detector',
    'GFL detector',
    'segmentor',
    'depth estimator',
)
DENSE = (ONE_STAGE, GFL)  # both have one dense head on a pyramid


@dataclass(frozen=True)
class Measured:
    """A row of a recorded table: the gain over the plain student of the same seed and steps.

    Attributes:
        student: What was distilled, in a word.
        gain: The mean with its 95 % interval, and the metric; above 0 is better.
        verdict: ``'helps'``, ``'harms'`` or ``'no difference seen'``.
        record: The file under ``configs/``.
        config: The row of it.
    """

    student: str
    gain: str
    verdict: str
    record: str
    config: str

    def __str__(self) -> str:
        return f'{self.student}: {self.gain}, {self.verdict}'


@dataclass(frozen=True)
class Choice:
    """A recipe for some families of students.

    Attributes:
        recipe: Its name.
        students: The families that it fits.
        measured: What is recorded of it, for these students.
        note: What else speaks for it or against it.
        same_family: Whether the teacher must be of the student's family (one-stage detectors count as one family).
    """

    recipe: str
    students: tuple[str, ...]
    measured: tuple[Measured, ...] = ()
    note: str = ''
    same_family: bool = True

    def fits(self, student: str | None, teacher: str | None) -> bool:
        """Tell whether it fits a student and a teacher, each of a family or of none that is known."""
        if not self.same_family:
            return True
        alike = student == teacher or (student in DENSE and teacher in DENSE)
        return student in self.students and alike and (self.recipe != 'ld' or teacher == GFL)

    def why(self) -> str:
        """Return what was measured of it, in a sentence."""
        told = '; '.join(map(str, self.measured)) or 'never measured here'
        return f'{told} ({self.note})' if self.note else told


_BCCD = 'skd/measured_bccd.json'
_CAMVID = 'skd/measured_camvid.json'
_NYU = 'skd/measured_nyuv2.json'
_SEEN, _HELPS, _HARMS = 'no difference seen', 'helps', 'harms'

# For each family the first that fits is chosen.
CHOICES = (
    Choice(
        'chen2017',
        (TWO_STAGE,),
        (
            Measured(
                'Faster R-CNN',
                '+2.00 [0.86, 3.14] mAP',
                _HELPS,
                'chen2017/measured_bccd.json',
                'configs/chen2017/chen_r18_r18-w16_fpn_bccd.py',
            ),
        ),
    ),
    Choice(
        'pkd_one_stage',
        DENSE,
        (
            Measured(
                'RetinaNet',
                '+3.67 [0.79, 6.55] mAP',
                _HELPS,
                'pkd/measured_bccd.json',
                'configs/pkd/pkd_r18_r18-w16_retinanet_fpn_bccd.py',
            ),
            Measured('FCOS', '+2.30 [1.80, 2.80] mAP', _HELPS, _BCCD, 'configs/pkd/pkd_r18_r18-w16_fcos_fpn_bccd.py'),
        ),
        'compares pyramids alone, so that the teacher may have another dense head',
    ),
    Choice(
        'cwd',
        (SEGMENTOR,),
        (
            Measured(
                'semantic FPN',
                '+1.10 [-0.67, 2.87] mIoU',
                _SEEN,
                _CAMVID,
                'configs/cwd/cwd_lite2_r18-w16_fpn_camvid.py',
            ),
        ),
        'cheap; nothing was shown to help segmentors yet',
    ),
    Choice(
        'ail_depth',
        (DEPTH,),
        (
            Measured(
                'ResNet-18',
                '+0.0069 [-0.0102, 0.0240] abs rel',
                _SEEN,
                _NYU,
                'configs/ail/ail_r18_r18-w8_depth_nyuv2.py',
            ),
        ),
        'nothing was shown to help depth estimators yet',
    ),
    Choice('pkd', (TWO_STAGE,), note='compares pyramids alone'),
    Choice(
        'chen2017_dense',
        DENSE,
        (
            Measured(
                'FCOS', '+1.27 [-0.60, 3.13] mAP', _SEEN, _BCCD, 'configs/chen2017/chen_r18_r18-w16_fcos_fpn_bccd.py'
            ),
        ),
    ),
    Choice(
        'ail_boxes',
        (TWO_STAGE, *DENSE),
        (Measured('FCOS', '+0.67 [-1.78, 3.12] mAP', _SEEN, _BCCD, 'configs/ail/ail_r18_r18-w16_fcos_fpn_bccd.py'),),
    ),
    Choice(
        'hinton_dense',
        DENSE,
        (
            Measured(
                'GFL',
                '+0.33 [-3.05, 3.72] mAP',
                _SEEN,
                'ld/measured_bccd.json',
                'configs/hinton/hinton_r18_r18-w16_gfl_fpn_bccd.py',
            ),
        ),
    ),
    Choice(
        'ld',
        (GFL,),
        (
            Measured(
                'GFL',
                '-0.07 [-2.80, 2.67] mAP',
                _SEEN,
                'ld/measured_bccd.json',
                'configs/ld/ld_r18_r18-w16_gfl_fpn_bccd.py',
            ),
        ),
        'the teacher is a GFL too',
    ),
    Choice(
        'skd_detection',
        DENSE,
        (Measured('FCOS', '-1.73 [-2.96, -0.51] mAP', _HARMS, _BCCD, 'configs/skd/skd_r18_r18-w16_fcos_fpn_bccd.py'),),
    ),
    Choice(
        'skd',
        (SEGMENTOR,),
        (
            Measured(
                'semantic FPN',
                '+1.03 [-0.02, 2.08] mIoU',
                _SEEN,
                _CAMVID,
                'configs/skd/skd_lite2_r18-w16_fpn_camvid.py',
            ),
        ),
        'with a discriminator, which has an optimiser of its own',
    ),
    Choice('hinton', (SEGMENTOR,), note='soft classes of each pixel'),
    Choice(
        'skd_depth',
        (DEPTH,),
        (
            Measured(
                'ResNet-18',
                '+0.0054 [-0.0079, 0.0186] abs rel',
                _SEEN,
                _NYU,
                'configs/skd/skd_r18_r18-w8_depth_nyuv2.py',
            ),
        ),
        'with a discriminator, which has an optimiser of its own',
    ),
    Choice('dist', (TWO_STAGE, *DENSE, SEGMENTOR)),
    Choice('dkd', (TWO_STAGE, *DENSE, SEGMENTOR)),
    Choice('logit_std', (SEGMENTOR,), note='soft classes of each pixel'),
    Choice('at_gradient', (*DENSE, SEGMENTOR, DEPTH), note='differentiates twice: twice the time of a step'),
    Choice('ofd_deeplabv3plus', (SEGMENTOR,), note='DeepLabV3+ alone'),
    *(Choice(recipe, FAMILIES) for recipe in ('cankd', 'cirkd', 'crd', 'fbkd', 'ifvd', 'reviewkd')),
    Choice('fitnets', FAMILIES, note='compares backbones alone: the teacher may be of any family', same_family=False),
    *(Choice(recipe, FAMILIES, same_family=False) for recipe in ('at', 'nst', 'ofd', 'fsp', 'ab', 'rkd', 'darkrank')),
)


def known(recipe: str) -> Choice | None:
    """Return the line of a recipe by its name, if there is one."""
    return next((choice for choice in CHOICES if choice.recipe == recipe), None)


def fitting(student: str | None, teacher: str | None) -> list[Choice]:
    """Return what fits a student and a teacher, the best first."""
    return [choice for choice in CHOICES if choice.fits(student, teacher)]


def choose(recipe: str | None, student: str | None, teacher: str | None) -> Choice:
    """Return the recipe that a student is taught by.

    Args:
        recipe: Its name, or the path of a file; ``None`` to take the first that fits and of which more is known than that
            it can be built.
        student: The student's family, ``None`` if it is of none that is known.
        teacher: The teacher's.

    Raises:
        ValueError: If it does not fit, or nothing does.
    """
    fit = fitting(student, teacher)
    if recipe is None:
        if fit[0].same_family:
            return fit[0]
        raise ValueError(
            f'no recipe is known for {_a(student)} with {_a(teacher)} for a teacher: take a teacher of the same family, '
            f'or compare their backbones alone with --recipe {", ".join(one.recipe for one in fit)}'
        )
    choice = known(recipe)
    if choice is None:
        return Choice(recipe, (), same_family=False)
    if choice not in fit:
        raise ValueError(
            f'the recipe {recipe} does not fit {_a(student)} with {_a(teacher)} for a teacher; '
            f'these do: {", ".join(one.recipe for one in fit)}'
        )
    return choice


def _a(family: str | None) -> str:
    return f'a {family}' if family else 'a model of a family that kddense does not know'
