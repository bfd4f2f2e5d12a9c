"""The composite model: a student that trains as ever, teachers that it listens to, and objectives between them."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from kddense.objectives import Objective
from kddense.random_state import forked_random_state
from kddense.registry import MODELS
from kddense.teachers.frozen import Teacher, current_scope, require_library
from kddense.teachers.image_format import PixelFormat
from kddense.views import Answer, Question, build_view

STUDENT = 'student.'
OWN_STATE = 'kddense'
TEACHER_KEYS = inspect.signature(Teacher).parameters.keys() - {'name'}


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains a student of mmdet or mmseg with teachers beside it.

    To the runner it is the student: same data preprocessor, same losses (and the objectives' beside them), same
    predictions, and a checkpoint that the plain student's config loads. Teachers are in no optimiser and no checkpoint.
    What the objectives learn (connectors) travels in the checkpoint's metadata, where stock tools do not look, and is
    restored on resuming.

    Args:
        student: The config of the model to train, as it stands in its own config file.
        teacher: One teacher, the arguments of :class:`kddense.Teacher`; or several, such dicts by name.
        objectives: Configs of objectives by name. One whose weight is 0 is not built at all: off means off.
        task_weights: Factors for the student's own losses by their name in the log, such as ``dict(loss_mask=0.5)``.
        data_preprocessor: The student's, if its config keeps it beside the model (mmengine passes it in).

    Raises:
        ValueError: If anything does not fit; the message begins with the config key.

    Example:
        >>> model = dict(
        ...     type='kddense.Distiller',
        ...     student=dict(type='FasterRCNN'),  # ... the student's config
        ...     teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='r101.pth'),
        ...     objectives=dict(hint=dict(type='kddense.HintObjective', tap='neck')))
    """

    def __init__(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any] | None = None,
        objectives: Mapping[str, Mapping[str, Any]] | None = None,
        task_weights: Mapping[str, float] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        student = dict(student)
        if data_preprocessor is not None:
            student.setdefault('data_preprocessor', data_preprocessor)
        require_library(student, current_scope(), 'student')
        built = MODELS.build(student)
        super().__init__(data_preprocessor=built.data_preprocessor)
        self.pixel_format = PixelFormat.of(built.data_preprocessor)
        self.student = built
        self.student_view = build_view(built, owner='student')
        self.task_weights = _check_task_weights(task_weights or {})
        self._checked = False
        with forked_random_state():
            # A plain dict: modules of this model are trained, saved, averaged and bucketed, teachers must not be.
            self._teachers: dict[str, Teacher] = _build_teachers(teacher)
            self.objectives = nn.ModuleDict()
            for name, config in _by_name('objectives', objectives).items():
                self._add_objective(name, config)
        self._register_state_dict_hook(_student_state_only)

    def _add_objective(self, name: str, config: Mapping[str, Any]) -> None:
        where = f'objectives.{name}'
        try:
            if not isinstance(config, Mapping) or 'type' not in config:
                raise ValueError(f'must be a dict with a `type`, got {config!r}')
            objective = MODELS.build(dict(config))
            if not isinstance(objective, Objective):
                raise ValueError(f'{type(objective).__name__} is not an Objective')
            if objective.is_off:
                print_log(f'{where} is off: its weight is 0', logger='current')
                return
            objective.teacher = self._teacher_of(objective)
            objective.bind(self.student_view, self._teachers[objective.teacher].view)
            self.objectives[name] = objective
        except KeyError as error:  # an unknown type, or a name that no module can have
            reason, *more = str(error.args[0] if error.args else error).split('. Please check')
            known = [f'kddense.{key}' for key in MODELS.module_dict]
            nearest = difflib.get_close_matches(str(config['type']), known, n=1) if more else []
            raise ValueError(f'{where}: {reason}{f"; did you mean {nearest[0]!r}?" if nearest else ""}') from error
        except (ValueError, TypeError) as error:
            raise type(error)(f'{where}: {error.args[0] if error.args else error}') from error

    def _teacher_of(self, objective: Objective) -> str:
        names = list(self._teachers)
        if objective.teacher is None and len(names) == 1:
            return names[0]
        if not names:
            raise ValueError('there is no teacher to learn from: set `teacher` in the model')
        if objective.teacher not in names:
            raise ValueError(f'teacher must be one of {", ".join(names)}, got {objective.teacher!r}')
        return objective.teacher

    @property
    def teachers(self) -> Mapping[str, Teacher]:
        """Teachers by name."""
        return self._teachers

    def init_weights(self) -> None:
        """Initialise the student, and nothing else."""
        self.student.init_weights()

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Train with ``mode='loss'``; in any other mode, be the student."""
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode, **kwargs)
        return self.loss(inputs, data_samples or [])

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Run one training step up to the losses.

        Args:
            inputs: The student's inputs, shape ``(N, C, H, W)``.
            data_samples: Its data samples, with ground truth.

        Returns:
            The student's own losses by their own names, and ``distill.<objective>.<loss>`` for the rest.
        """
        weights = self._weights()
        active = {name: objective for name, objective in self._objectives() if weights[name] > 0}
        self._check_run()
        questions = self._questions(active)
        # A teacher that need not know the student's samples goes first: its maps are gone before the student's are kept.
        early = {name: question for name, question in questions.items() if not self._sampled_for(name, question)}
        taught = self._ask_teachers(early, inputs, data_samples)
        taps: frozenset[str] = frozenset().union(*(objective.student_taps for objective in active.values()))
        kinds: frozenset[str] = frozenset().union(
            *(objective.kinds for objective in active.values()),
            *(self._sampled_for(*asked) for asked in questions.items()),
        )
        with self.student_view.without_labels(data_samples), self.student_view.listening(taps, kinds) as recording:
            losses = self.student(inputs, data_samples, mode='loss')
        losses = self._scale_task_losses(losses, active, weights)
        if not self.objectives:
            return losses
        seen = self.student_view.read(recording, taps, kinds)
        late = {name: self._with_samples(name, questions[name], seen) for name in questions if name not in early}
        taught.update(self._ask_teachers(late, inputs, data_samples))
        for name, objective in self._objectives():
            if name not in active:
                losses[f'distill.{name}.loss_idle'] = _touch(objective, inputs)
                continue
            for key, value in self._losses_of(name, objective, seen, taught[objective.teacher or '']).items():
                weight = 1.0 if key in objective.own_losses else weights[name]
                losses[f'distill.{name}.{key}'] = weight * value if 'loss' in key else value
        _check_finite(losses)
        return losses

    @staticmethod
    def _losses_of(name: str, objective: Objective, seen: Answer, taught: Answer) -> dict[str, Tensor]:
        try:
            return objective(seen, taught)
        except ValueError as error:
            raise ValueError(f'objectives.{name}: {error}') from error

    def _check_run(self) -> None:
        """Check, before the first step of a run, what only the run knows: the dataset and the optimisers."""
        hub = MessageHub.get_current_instance()
        if self._checked or 'max_iters' not in hub.runtime_info:
            return
        self._checked = True
        dataset = hub.get_info('dataset_meta') if 'dataset_meta' in hub.runtime_info else {}
        for name, objective in self._objectives():
            if objective.trains_adversary and not objective.has_optimizer:
                raise ValueError(
                    f'objectives.{name} trains a discriminator, which needs an optimiser of its own: add optim_wrapper = '
                    f"dict(constructor='kddense.JointOptimWrapperConstructor', objectives=dict({name}=dict(optimizer=dict("
                    "type='Adam', lr=4e-4, betas=(0.9, 0.99)))))"
                )
            teacher = self._teachers[objective.teacher or '']
            if objective.compares_classes:
                teacher.check_classes(dataset.get('classes'), f'objectives.{name}')
            try:
                objective.check_run(hub.runtime_info.get('cfg'), teacher.checkpoint)
            except ValueError as error:
                raise ValueError(f'objectives.{name}: {error}') from error

    def _objectives(self) -> list[tuple[str, Objective]]:
        return [(name, objective) for name, objective in self.objectives.items() if isinstance(objective, Objective)]

    def _weights(self) -> dict[str, float]:
        hub = MessageHub.get_current_instance()
        iteration, end = (hub.get_info(key) if key in hub.runtime_info else None for key in ('iter', 'max_iters'))
        return {name: objective.schedule(iteration or 0, end) for name, objective in self._objectives()}

    def _questions(self, active: Mapping[str, Objective]) -> dict[str, Question]:
        """Put together what the active objectives want to know of each teacher; the student's samples come later."""
        questions = {}
        for name in self._teachers:
            asking = [objective for objective in active.values() if objective.teacher == name]
            if asking:
                taps: frozenset[str] = frozenset().union(*(objective.teacher_taps for objective in asking))
                opinions: frozenset[str] = frozenset().union(*(objective.kinds for objective in asking))
                questions[name] = Question(taps, opinions=opinions)
        return questions

    def _sampled_for(self, teacher: str, question: Question) -> frozenset[str]:
        """Return the kinds of samples that a teacher has to be given with a question."""
        view = self._teachers[teacher].view
        return (question.opinions & view.sampled_kinds) | view.kinds_behind(question.taps)

    def _with_samples(self, teacher: str, question: Question, seen: Answer) -> Question:
        return replace(question, samples={kind: seen.samples[kind] for kind in self._sampled_for(teacher, question)})

    def _ask_teachers(self, questions: Mapping[str, Question], inputs: Tensor, data_samples: list) -> dict[str, Answer]:
        return {
            name: self._teachers[name].answer(question, inputs, data_samples, self.pixel_format)
            for name, question in questions.items()
        }

    def _scale_task_losses(
        self, losses: dict[str, Any], active: Mapping[str, Objective], weights: Mapping[str, float]
    ) -> dict[str, Any]:
        """Apply ``task_weights``, and what the objectives say of the student's own losses (Chen's μ).

        An objective at half its weight moves the student's loss half the way.
        """
        unknown = self.task_weights.keys() - losses.keys()
        if unknown:
            raise ValueError(f'task_weights: the student has no loss {sorted(unknown)}, only {sorted(losses)}')
        factors = dict(self.task_weights)
        for name, objective in active.items():
            for pattern, scale in objective.task_scales().items():
                moved = 1 - min(weights[name], 1.0) * (1 - scale)
                for key in filter(re.compile(pattern).fullmatch, losses):
                    factors[key] = factors.get(key, 1.0) * moved
        return {key: _times(value, factors.get(key, 1.0)) for key, value in losses.items()}

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Distiller:
        super()._apply(fn, *args, **kwargs)
        for teacher in self._teachers.values():
            teacher._apply(fn, *args, **kwargs)
        return self

    def named_parameters(self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True) -> Any:
        """Name the student's parameters as the plain student does: optimiser constructors go by these names."""
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            yield (
                name.replace(f'{prefix}.{STUDENT}' if prefix else STUDENT, f'{prefix}.' if prefix else '', 1),
                parameter,
            )

    def __getattr__(self, name: str) -> Any:
        """Look up in the student what the distiller lacks: hooks of mmdet and mmseg reach for parts of the model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            student = self.__dict__.get('_modules', {}).get('student')
            if student is None:
                raise
            return getattr(student, name)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """Read a checkpoint of the plain student: the inverse of :func:`_student_state_only`."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f'{prefix}{STUDENT}{key[len(prefix) :]}'] = state_dict.pop(key)
        saved = local_metadata.get(OWN_STATE, {})
        own = {key: value for key, value in _own_state(self).items() if key not in saved}
        if saved and own:
            print_log(f'not in the checkpoint, starting afresh: {", ".join(own)}', logger='current', level=30)
        for key, value in {**own, **saved}.items():
            state_dict[prefix + key] = value
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


def _own_state(distiller: Distiller) -> dict[str, Tensor]:
    """Return what the distiller learns besides the student."""
    return {f'objectives.{key}': value for key, value in distiller.objectives.state_dict().items()}


def _student_state_only(distiller: Distiller, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    """Turn a state dict of the distiller into one of the plain student; the rest goes to the metadata."""
    own = {}
    for key in [key for key in state if key.startswith(prefix)]:
        value = state.pop(key)
        name = key[len(prefix) :]
        if name.startswith(STUDENT):
            state[prefix + name[len(STUDENT) :]] = value
        elif not name.startswith('data_preprocessor.'):
            own[name] = value.detach().cpu()
    if own:
        metadata[OWN_STATE] = own
    versions = getattr(state, '_metadata', {})
    for key in [key for key in versions if key.startswith(prefix + STUDENT)]:
        versions[prefix + key[len(prefix + STUDENT) :]] = versions.pop(key)


def _by_name(where: str, configs: Any) -> Mapping[str, Any]:
    if not isinstance(configs or {}, Mapping):
        raise ValueError(f'{where} must be a dict of configs by name, got a {type(configs).__name__}')
    return configs or {}


def _build_teachers(config: Mapping[str, Any] | None) -> dict[str, Teacher]:
    config = _by_name('teacher', config)
    if TEACHER_KEYS & config.keys():
        return {'teacher': _build_teacher('teacher', config)}
    return {name: _build_teacher(f'teacher.{name}', one) for name, one in config.items()}


def _build_teacher(where: str, config: Any) -> Teacher:
    if not isinstance(config, Mapping):
        raise ValueError(f"{where} must be a dict with the keys 'config' and 'checkpoint', got {config!r}")
    for key, what in (('config', "the teacher's config"), ('checkpoint', "the path of the trained teacher's weights")):
        if key not in config:
            raise ValueError(f"{where} needs the key '{key}': {what}")
    for key in config.keys() - TEACHER_KEYS:
        raise ValueError(f"{where} has no key '{key}', only {', '.join(sorted(TEACHER_KEYS))}")
    return Teacher(**config, name=where)


def _check_task_weights(weights: Mapping[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        if not 0 <= weight < float('inf'):
            raise ValueError(f'task_weights.{name} must be a number that is at least 0, got {weight}')
    return dict(weights)


def _times(value: Any, factor: float) -> Any:
    if factor == 1:
        return value
    return [item * factor for item in value] if isinstance(value, (list, tuple)) else value * factor


def _touch(objective: nn.Module, like: Tensor) -> Tensor:
    """A zero that reaches every parameter, so that DDP sees them all while an objective's weight is 0."""
    return sum((parameter.sum() * 0 for parameter in objective.parameters()), like.new_zeros(()))


def _check_finite(losses: Mapping[str, Any]) -> None:
    names = [name for name in losses if name.startswith('distill.')]
    if not names:
        return
    finite = torch.isfinite(torch.stack([losses[name].detach().float() for name in names]))
    if finite.all():
        return
    bad = [name for name, fine in zip(names, finite.tolist(), strict=True) if not fine]
    hub = MessageHub.get_current_instance()
    iteration = hub.get_info('iter') if 'iter' in hub.runtime_info else 'unknown'
    raise FloatingPointError(
        f'{", ".join(bad)} is NaN or infinite at iteration {iteration}. Lower the learning rate or the weight of the '
        'objective, or add a warm-up to it; checkpoints saved before are untouched'
    )
