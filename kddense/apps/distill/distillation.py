"""One distillation, from two configs and a checkpoint to a report."""

from __future__ import annotations

import copy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from kddense.registry import MODELS
from kddense.report.contents import Report
from kddense.report.evaluation import load_model, plain_config, scope_of
from kddense.report.report import write_report
from kddense.training.runs import COMMAND

from .choices import Choice, choose, fitting
from .folder import Folder, digest
from .models import Looked, are_strangers, look_at_student, look_at_teacher, swapped
from .pairs import Fit, fit, obstacles, stand_beside
from .quality import chance, fault_of, headline, tested
from .unlabelled import look_at_unlabelled
from .writing import DISTILLED, PLAIN, Style, distilled_text, plain_text, split_options

TITLES = {'plain': 'the plain student', 'distilled': 'the distilled student'}


class DistillError(RuntimeError):
    """A step that failed; the message says what to do."""


@dataclass
class Distillation:
    """One distillation.

    Args:
        student: The student's plain config: a path, or ``'package::path'``.
        teacher: The teacher's config.
        checkpoint: The teacher's weights: a path or a URL.
        recipe: A name from ``configs/_base_/recipes``, or the path of a recipe; by default what fits the models' family.
        work_dir: Where everything goes; ``work_dirs/distill_<student>`` by default.
        student_checkpoint: Weights of a plain student that the teacher must be better than.
        unlabelled: Images without labels, as many in each batch as with labels; see :class:`kddense.UnlabelledImages`.
        compare: Whether the plain student is trained too, with the same seed and schedule.
        test_teacher: Whether the teacher is tested before it teaches.
        seed: Of the random numbers; the student's own by default, or 0.
        options: Changes to the student's config; those of ``model.teacher`` and ``model.objectives`` are the distiller's.
        split: What the report measures on, ``'val'`` or ``'test'``.
        device: Where models are tested; where they are trained is for mmengine to say.
        trust_checkpoint: See :class:`kddense.FrozenTeacher`.
        say: Told what is being done.
    """

    student: str
    teacher: str
    checkpoint: str
    recipe: str | None = None
    work_dir: Path | None = None
    student_checkpoint: str | None = None
    unlabelled: Sequence[str] = ()
    compare: bool = False
    test_teacher: bool = True
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str = 'val'
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    trust_checkpoint: bool = False
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.student, self.teacher, self.checkpoint = map(_absolute, (self.student, self.teacher, self.checkpoint))
        if self.recipe and self.recipe.endswith('.py'):
            self.recipe = _absolute(self.recipe)
        self.unlabelled = [_absolute(images) for images in self.unlabelled]
        self.folder = Folder(
            self.work_dir or Path('work_dirs') / f'distill_{Path(self.student.rpartition("::")[2]).stem}'
        )

    def prepare(self) -> Choice:
        """Look at both models, choose a recipe, test the teacher, and write ``plain.py`` and ``distilled.py``.

        Returns:
            The recipe.

        Raises:
            ValueError: If something does not fit, or the teacher has nothing to teach; nothing is written then.
            OSError: If a file is absent.
        """
        student = look_at_student(self.student, split_options(self.options)[0])
        class_map = self.options.get('model.teacher.class_map')
        teacher = look_at_teacher(self.teacher, self.checkpoint, self.trust_checkpoint, class_map)
        self.say(f'student: {_described(student)}')
        self.say(f'teacher: {_described(teacher)}')
        warning = swapped(student, teacher)
        if warning:
            self.say(f'warning: {warning}')
        look_at_unlabelled(self.unlabelled, student, self.say)
        lacking = obstacles(student, teacher)
        strangers = are_strangers(student, teacher)
        choice = choose(self.recipe, student.family, teacher.family, strangers, lacking, bool(self.unlabelled))
        found = fit(choice.recipe, student, teacher)
        if self.recipe is None:
            stand_beside(found, student, lacking)
        self._tell(choice, found, student, teacher, lacking)
        settings = self._settings(student, choice)
        self.folder.check(settings)
        with tempfile.TemporaryDirectory(dir=self.folder.ground) as scratch:
            self._check_build(Path(scratch), self._files(student, choice, found, Path(scratch)), student)
        files = self._files(student, choice, found, self.folder.path)
        if self.folder.is_begun:
            self._keep(files)
            return choice
        known = self._test(student, teacher)
        self.folder.begin(settings, files, known)
        self.say(f'written: {self.folder.path / DISTILLED}')
        for line in self.folder.by_hand(student.config.get('default_scope')):
            self.say(line)
        return choice

    def run(self) -> Report:
        """Prepare, train, test and write the report; what is done is not done again.

        Raises:
            DistillError: If a training fails.
            ValueError: As in :meth:`prepare`.
            OSError: As in :meth:`prepare`.
        """
        self.prepare()
        if self.compare:
            self._train('plain', PLAIN)
        self._train('distilled', DISTILLED)
        self.say('the report: testing the checkpoints with the plain config')
        return write_report(
            self.page,
            [self.folder.path / 'distilled'],
            self.folder.path / 'plain' if self.folder.is_done('plain') else None,
            split=self.split,
            device=self.device,
            trust_checkpoint=self.trust_checkpoint,
            command=self._command_of_report(),
            say=lambda text: None,
        )

    @property
    def page(self) -> Path:
        """The report."""
        return self.folder.path / 'report.html'

    def _tell(self, choice: Choice, found: Fit, student: Looked, teacher: Looked, lacking: Collection[str]) -> None:
        beside = bool(self.unlabelled)
        self.say(f'recipe: {choice.recipe}; {choice.why(beside)}')
        fits = fitting(student.family, teacher.family, are_strangers(student, teacher), lacking, beside)
        for one in (one for one in fits if one.recipe in found.beside):
            self.say(f'  beside it {one.recipe}; {one.why(beside)}')
        for name, reason in found.left_out.items():
            self.say(f'  without {name}: {reason}')
        others = [one for one in fits if one.recipe not in (choice.recipe, *found.beside)]
        for one in filter(lambda one: one.is_measured(beside), others):
            self.say(f'  or --recipe {one.recipe}; {one.why(beside)}')
        self.say(f'  or, never measured here: {", ".join(one.recipe for one in others if not one.is_measured(beside))}')

    def _files(self, student: Looked, choice: Choice, found: Fit, folder: Path) -> dict[str, str]:
        """Return the texts of the configs that will lie in ``folder``, by name."""
        of_student, of_distiller = split_options(self.options)
        seed = self.seed
        if seed is None:
            seed = (student.config.get('randomness') or {}).get('seed')
        teacher: dict[str, Any] = dict(config=self.teacher, checkpoint=self.checkpoint)
        if self.trust_checkpoint:
            teacher['trust_checkpoint'] = True
        style = Style.of(self.student)
        distilled = distilled_text(
            style, student.config, choice.recipe, teacher, of_distiller, found.changes, self.unlabelled
        )
        return {
            PLAIN: plain_text(self.student, student.config, of_student, seed or 0, folder),
            DISTILLED: distilled,
        }

    def _settings(self, student: Looked, choice: Choice) -> dict[str, Any]:
        images = {'set of images without labels': self.unlabelled} if self.unlabelled else {}
        return {
            'student': self.student,
            'teacher': self.teacher,
            'checkpoint': self.checkpoint,
            'recipe': choice.recipe,
            'seed': self.seed,
            'set of options': digest(dict(self.options)),
            "contents of the student's config": digest(student.config.to_dict()),
            **images,
        }

    def _check_build(self, scratch: Path, files: Mapping[str, str], student: Looked) -> None:
        """Build what will be trained, once, from what will be written."""
        for name, text in files.items():
            (scratch / name).write_text(text)
        config = Config.fromfile(scratch / DISTILLED)
        with scope_of(config):
            distiller: Any = MODELS.build(copy.deepcopy(config.model))
        for name, objective in distiller.named_objectives.items():
            for one in objective.taught_by if objective.compares_classes else ():
                distiller.teachers[one].check_classes(student.classes, f'objectives.{name}')

    def _keep(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            file = self.folder.path / name
            if not file.is_file():
                raise ValueError(f'{self.folder.path} holds no {name} any more: delete the folder')
            if file.read_text() != text:
                self.say(f'{file} was edited: it is trained as it is')
        self.say(f'going on in {self.folder.path}')

    def _test(self, student: Looked, teacher: Looked) -> dict[str, Any]:
        """Test the teacher on the student's validation data; return what it measured.

        Raises:
            ValueError: If it is no better than the student, or than chance.
        """
        if not self.test_teacher:
            self.say('the teacher is not tested, as --no-teacher-test says')
            return {}
        if student.classes and teacher.classes and len(student.classes) != len(teacher.classes):
            self.say(
                f'the teacher is not tested: it knows {len(teacher.classes)} classes, the student {len(student.classes)}'
            )
            return {}
        if teacher.class_map is not None and list(teacher.class_map) != list(range(len(teacher.class_map))):
            self.say(
                'the teacher is not tested: model.teacher.class_map says that its labels are not those of the student'
            )
            return {}
        metrics = tested(teacher.model, student.config, self.device, self.say, 'the teacher')
        if not metrics:  # mmdet's, where no box is found
            raise ValueError(
                "the teacher finds nothing at all on the student's validation images: its checkpoint must be one that its "
                'config was trained to'
            )
        metric = headline(metrics)
        self.say(
            f"the teacher on the student's validation images: {metric.label} {metric.written(metrics[metric.key])}"
        )
        other, name = chance(metric, student.config), 'chance'
        if self.student_checkpoint:
            plain = load_model(plain_config(student.config), self.student_checkpoint, self.trust_checkpoint, 'student')
            other, name = (
                tested(plain, student.config, self.device, self.say, 'the student').get(metric.key, 0.0),
                "the student's checkpoint",
            )
            self.say(f'the student: {metric.label} {metric.written(other)}')
        fault = None if other is None else fault_of(metric, metrics[metric.key], other, name)
        if fault:
            raise ValueError(fault)
        return metrics

    def _train(self, name: str, config: str) -> None:
        """Train in a process of its own, as the stock script would; from where an earlier call was cut off."""
        folder = self.folder.path / name
        if self.folder.is_done(name):
            self.say(f'{TITLES[name]} is trained, in {folder}')
            return
        command = [sys.executable, '-m', 'kddense', 'train', str(self.folder.path / config), '--work-dir', str(folder)]
        if (folder / 'last_checkpoint').is_file():
            command.append('--resume')
        self.say(f'training {TITLES[name]}, in {folder}')
        torch.cuda.empty_cache()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COMMAND).write_text(f'{shlex.join(["kddense", *command[3:]])}\n')
        if subprocess.run(command).returncode != 0:
            raise DistillError(
                f'the training of {TITLES[name]} stopped with the error above; the same command goes on from its last '
                'checkpoint'
            )
        self.folder.note(name)

    def _command_of_report(self) -> str:
        command = ['kddense', 'report', '--distilled', self.folder.path / 'distilled', '--out', self.page]
        if self.folder.is_done('plain'):
            command += ['--plain', self.folder.path / 'plain']
        return shlex.join([*map(str, command), '--split', self.split])


def _described(looked: Looked) -> str:
    family = looked.family or 'of no family that recipes are known for'
    classes = f', {len(looked.classes)} classes' if looked.classes else ''
    return f'{type(looked.model).__name__}, {family}, {looked.parameters / 1e6:.2f} M parameters{classes}'


def _absolute(source: str | Path) -> str:
    """Return a path that holds from everywhere; what is none stays as it is: ``'package::path'``, a URL."""
    text = str(source)
    return text if '::' in text or '://' in text else str(Path(text).expanduser().absolute())
