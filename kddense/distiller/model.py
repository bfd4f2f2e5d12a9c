"""The composite model: a student that trains as ever, teachers that it listens to, and objectives between them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor, nn

from kddense.configs import class_names, current_scope, require_library
from kddense.errors import ConfigError, within
from kddense.exchange import Batch, ImageFormat
from kddense.objectives import Objective
from kddense.objectives.schedules import WeightSchedule, build_schedule
from kddense.options import check_pattern
from kddense.random_state import forked_random_state
from kddense.registry import MODELS
from kddense.teachers import Teacher
from kddense.views import CompiledParts, begin_graphs, build_view, captures_graphs, match_masks

from .build import build_objectives, build_teachers, check_run
from .finite import FiniteCheck
from .interfaces import is_for_inference
from .plan import make_plan
from .side_stream import SideStream, check_side_stream
from .state import STUDENT, read_student_state, write_student_state
from .written import check_keys, objectives_of

TASK = 'task'  # the student's own losses, where names of objectives stand
ARGUMENTS = ('student', 'teacher', 'objectives', 'task_weights', 'compile', 'side_stream', 'data_preprocessor')


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains a student of mmdet or mmseg with teachers beside it.

    To the runner it is the student: same data preprocessor, same losses (and the objectives' beside them), same
    predictions, and a checkpoint that the plain student's config loads. Teachers are in no optimiser and no checkpoint.
    What the objectives learn (connectors) travels in the checkpoint's metadata, where stock tools do not look, and is
    restored on resuming. What only predicts (``init_detector``, ``MMSegInferencer`` and their like) gets the student alone,
    and needs no teacher's files.

    Args:
        student: The config of the model to train, as it stands in its own config file.
        teacher: One teacher, a dict with a ``type``, or without one the arguments of :class:`kddense.FrozenTeacher`; or
            several, such dicts by name.
        objectives: Configs of objectives by name. One whose weight is 0 is not built at all: off means off. Or the name of a
            recipe, such as ``'chen2017'``, or several of them and changes, such as
            ``['chen2017', 'pkd', dict(hint=dict(weight=0.5))]``.
        task_weights: Factors for the student's own losses by their name in the log, such as ``dict(loss_mask=0.5)``, or by a
            regular expression of whole names. A dict of the arguments of
            :class:`kddense.objectives.schedules.WeightSchedule` lets a factor depend on the iteration:
            ``{'.*': dict(value=1, start=0.3)}`` trains without the task first.
        compile: Run the student's backbone and neck, as far as no tap listens into them, through ``torch.compile``; a dict
            of its options. A teacher has an option of its own. ``dict(mode='reduce-overhead')`` replays CUDA graphs, for
            images of one size.
        side_stream: Run the teachers that need nothing of the student on a CUDA stream of their own, beside the student's
            forward pass; all else is as without, to the last digit. Their maps then stand beside the student's in
            memory. On a CPU it changes nothing. Refused with teachers that replay CUDA graphs.
        data_preprocessor: The student's, if its config keeps it beside the model (mmengine passes it in).
        **others: Nothing. mmseg's ``init_model`` sets ``pretrained`` and ``train_cfg`` to ``None``; keys of a base config
            that is still there are named in the error.

    Raises:
        ValueError: If anything does not fit; the message begins with the config key.

    Example:
        >>> model = dict(
        ...     type='kddense.Distiller',
        ...     student=dict(type='FasterRCNN'),  # ... the student's config
        ...     teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='r101.pth'),
        ...     objectives=dict(hint=dict(type='kddense.HintObjective', tap='neck')))
    """

    config_key = ''  # its options are named as they are
    names_unknown_keys = True

    def __init__(
        self,
        student: Mapping[str, Any],
        teacher: Mapping[str, Any] | None = None,
        objectives: Mapping[str, Mapping[str, Any]] | str | Sequence[Any] | None = None,
        task_weights: Mapping[str, float | Mapping[str, Any]] | None = None,
        compile: bool | Mapping[str, Any] = False,
        side_stream: bool = False,
        data_preprocessor: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        student = dict(student)
        check_keys(student, others, ARGUMENTS)
        if is_for_inference():
            teacher = objectives = None
        if data_preprocessor is not None:
            student.setdefault('data_preprocessor', data_preprocessor)
        if 'type' not in student:
            raise ConfigError('must be the config of a model, with a `type`: student={{_base_.model}}', 'student')
        require_library(student, current_scope(), 'student')
        with within('student', student):
            built = MODELS.build(copy.deepcopy(student))  # some of mmdet's models write into their configs
            if not isinstance(built, BaseModel):
                raise ConfigError(f': {type(built).__name__} is no model of mmdet or mmseg')
        super().__init__(data_preprocessor=built.data_preprocessor)
        self.image_format = ImageFormat.of(built.data_preprocessor)
        self.student = built
        self.student_view = build_view(built, owner='student')
        for name in task_weights or {}:
            check_pattern(name, 'task_weights')
        self.task_weights = {
            name: build_schedule(weight, f'task_weights.{name}') for name, weight in (task_weights or {}).items()
        }
        self._compiled = CompiledParts.of(compile)
        self.finite_check = FiniteCheck()
        self._stages: tuple[tuple[WeightSchedule, frozenset[str] | None], ...] = ()
        self._checked = False
        self._run_config: str | None = None
        with forked_random_state():
            # A plain dict: modules of this model are trained, saved, averaged and bucketed, teachers must not be.
            self._teachers: dict[str, Teacher] = build_teachers(teacher, self.image_format)
            self.objectives = nn.ModuleDict(
                build_objectives(objectives_of(objectives), self.student_view, self._teachers)
            )
        self.side_stream = SideStream(side_stream)
        if side_stream:
            check_side_stream(self._teachers)
        self._captures_graphs = captures_graphs(self) or any(map(captures_graphs, self._teachers.values()))
        self._register_state_dict_hook(write_student_state)
        # Whatever trains this model, alone or wrapped, gives the batch to the preprocessor first.
        self.data_preprocessor.register_forward_pre_hook(partial(_begin_batch, self.finite_check), with_kwargs=True)

    @property
    def teachers(self) -> Mapping[str, Teacher]:
        """Teachers by name."""
        return self._teachers

    @property
    def named_objectives(self) -> dict[str, Objective]:
        """Objectives by name, those that are on."""
        return {name: objective for name, objective in self.objectives.items() if isinstance(objective, Objective)}

    def init_weights(self) -> None:
        """Initialise the student, and nothing else."""
        # The runner calls this before it resumes, which fills the hub with what a checkpoint says of itself.
        self._run_config = MessageHub.get_current_instance().runtime_info.get('cfg')
        self.student.init_weights()

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Train with ``mode='loss'``; in any other mode, be the student."""
        if self._captures_graphs:
            begin_graphs(self.student)
        if mode != 'loss':
            return self.student(inputs, data_samples, mode=mode, **kwargs)
        return self.loss(inputs, data_samples or [])

    @torch.compiler.disable
    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Run one training step up to the losses; never compiled, taps listen to the models as they are.

        Args:
            inputs: The student's inputs, shape ``(N, C, H, W)``.
            data_samples: Its data samples, with ground truth.

        Returns:
            The student's own losses by their own names, and ``distill.<objective>.<loss>`` for the rest.
        """
        iteration, end = self._begin_step()
        counting = self._counting(iteration, end)
        plan = make_plan(self.named_objectives, self._teachers, iteration, end, counting)
        batch = Batch(inputs, data_samples, self.image_format)
        early = self.side_stream.ask(plan.ask_early, batch)
        if self._compiled is not None:
            # What is compiled cannot be differentiated twice.
            taps = None if plan.differentiates else plan.all_taps(self.student_view)
            self._compiled.listen(self.student, taps)
        seen = plan.learn(self.student_view, self.student, batch)
        late = plan.ask_late(batch, seen)
        factors = {name: schedule(iteration or 0, end) for name, schedule in self.task_weights.items()}
        if counting is not None and TASK not in counting:
            factors = {'.*': 0.0}
        task = plan.scale_task(seen.losses, factors)
        losses = task | plan.compare(seen, self.side_stream.joined(early) | late, task)
        self.finite_check.note(losses, iteration)
        return losses

    def follow_stages(self, stages: Sequence[tuple[WeightSchedule, frozenset[str] | None]]) -> None:
        """Let only some losses count in stages of the run.

        Args:
            stages: When each is, and what counts in it: names of objectives, ``'task'`` for the student's own losses; or
                ``None`` for all.

        Raises:
            ValueError: If there is no such objective, one counts in no stage, or one's weight cannot be measured in a stage.
        """
        names = [one for _, one in stages if one is not None]
        unknown = sorted(frozenset().union(*names) - {*self.objectives, TASK})
        if unknown:
            known = ', '.join([TASK, *self.objectives])
            raise ValueError(f"stages: there is no objective '{unknown[0]}', what may count is {known}")
        idle = [one for one in self.objectives if len(names) == len(stages) and not any(one in each for each in names)]
        if idle:
            raise ValueError(f'stages: objectives.{idle[0]} counts in none of them: leave it out, or name it in one')
        alone = [one for each in names if TASK not in each for one in sorted(each) if self.named_objectives[one].share]
        if alone:
            raise ValueError(
                f"stages: objectives.{alone[0]}.weight is measured by the task's gradient, which is 0 in a stage without "
                "'task': give a number"
            )
        self._stages = tuple(stages)

    def _counting(self, iteration: int | None, end: int | None) -> frozenset[str] | None:
        """Return what counts in the current stage; ``None`` for all."""
        return next((names for window, names in self._stages if window(iteration or 0, end) > 0), None)

    def _begin_step(self) -> tuple[int | None, int | None]:
        """Return the iteration and the number of all, as far as a run says; check before its first step what it tells."""
        hub = MessageHub.get_current_instance()
        iteration, end = (hub.get_info(key) if key in hub.runtime_info else None for key in ('iter', 'max_iters'))
        if not self._checked and end is not None:
            self._checked = True
            dataset = hub.get_info('dataset_meta') if 'dataset_meta' in hub.runtime_info else {}
            classes = class_names(dataset.get('classes'))
            check_run(self.named_objectives, self._teachers, classes, self._run_config, end)
        return iteration, end

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Distiller:
        super()._apply(fn, *args, **kwargs)
        for teacher in self._teachers.values():
            teacher._apply(fn, *args, **kwargs)
        return self

    def named_parameters(self, prefix: str = '', recurse: bool = True, remove_duplicate: bool = True) -> Any:
        """Name the student's parameters as the plain student does: optimiser constructors go by these names."""
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            start = f'{prefix}.{STUDENT}' if prefix else STUDENT
            plain = f'{prefix}.' if prefix else ''
            yield (plain + name.removeprefix(start) if name.startswith(start) else name), parameter

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
        """Read a checkpoint of the plain student."""
        read_student_state(self, state_dict, prefix, local_metadata)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


def _begin_batch(check: FiniteCheck, _: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
    given = {**dict(zip(('data', 'training'), args, strict=False)), **kwargs}
    if given.get('training'):
        check.begin(given['data'])
        match_masks(given['data'].get('data_samples') or ())
