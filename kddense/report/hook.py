"""Pictures during training: what the student sees, and how its features become like the teacher's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn import functional as F

from kddense.distiller import Distiller
from kddense.exchange import Shown
from kddense.random_state import forked_random_state
from kddense.registry import HOOKS
from kddense.report.evaluation import SPLITS, build_loader
from kddense.report.examples import Example, examples_of
from kddense.report.knowledge import Knowledge, look
from kddense.report.pictures import side_by_side
from kddense.teachers import Teacher
from kddense.training.added_hook import AddedHook
from kddense.views import build_view, in_eval_mode


@HOOKS.register_module()
class DistillVisualizationHook(AddedHook):
    """Draws a few validation images every so often into mmengine's visualizer: local files, TensorBoard, Weights & Biases.

    For each image, under the names ``distill_0_predictions``, ``distill_0_energy``, ``distill_0_affinities`` and so on:

    - what teacher and student predict, beside the ground truth;
    - feature energy of both, where the first objective with a tap listens, else of the neck or the backbone;
    - with a pair-wise term, how alike every place is to the one in the ring, in both.

    The first pictures are of the student before the first step. Training goes on as if nobody had looked: random numbers,
    modes and statistics are left as they are. Not for models that are sharded over processes (FSDP). Of a teacher that is no
    model of OpenMMLab there are no pictures, only of the student.

    Args:
        interval: Iterations between two looks; the last iteration is always drawn.
        images: How many, spread evenly over the data set.
        split: Whose images, ``'val'`` or ``'test'``.
        teacher: Which teacher, if there are several; the first by default.

    Raises:
        ValueError: If an argument does not fit, or, before the first step, if the model is no :class:`kddense.Distiller`.

    Example:
        >>> default_hooks = dict(pictures=dict(type='kddense.DistillVisualizationHook', interval=500, images=2))
    """

    works_sharded = False
    priority = 'LOW'

    def __init__(self, interval: int = 500, images: int = 2, split: str = 'val', teacher: str | None = None) -> None:
        for name, value in (('interval', interval), ('images', images)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value!r}')
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
        self.interval = interval
        self.images = images
        self.split = split
        self.teacher = teacher
        self._examples: list[Example] = []
        self._taught: list[tuple[np.ndarray | None, Knowledge | None]] = []
        self._shown: Sequence[Shown] = ()

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Look at the teacher, which will not change, and at the student before its first step."""
        distiller = _distiller_of(runner)
        teacher = self._choose(distiller)
        self._shown = [objective.shown() for objective in distiller.named_objectives.values()]
        with forked_random_state(), torch.no_grad():
            self._examples = examples_of(build_loader(runner.cfg, self.split).dataset, self.images)
            self._taught = self._look_at_teacher(teacher)
        self._draw(runner, runner.iter)

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._draw(runner, runner.iter + 1)

    def _choose(self, distiller: Distiller) -> Teacher:
        teachers = distiller.teachers
        if not teachers:
            raise ValueError('custom_hooks: the DistillVisualizationHook has no teacher to look at')
        name = self.teacher or next(iter(teachers))
        if name not in teachers:
            raise ValueError(
                f'custom_hooks: teacher of the DistillVisualizationHook must be one of {", ".join(teachers)}, got {name!r}'
            )
        return teachers[name]

    def _look_at_teacher(self, teacher: Teacher) -> list[tuple[np.ndarray | None, Knowledge | None]]:
        """Return what it predicts and shows of each image."""
        model = getattr(teacher, 'model', None)
        if not isinstance(model, BaseModel):
            what = f'the {teacher.name} ({type(teacher).__name__}) is no model of OpenMMLab'
            print_log(f'{what}: there are no pictures of it', logger='current', level=30)
            return [(None, None)] * len(self._examples)
        model = copy.deepcopy(model).float()
        return [self._look_at_model(teacher, model, example) for example in self._examples]

    def _look_at_model(
        self, teacher: Teacher, model: nn.Module, example: Example
    ) -> tuple[np.ndarray | None, Knowledge]:
        scaled = _at_scale(example, teacher.view.input_scale)
        if teacher.classes is not None:
            scaled = replace(scaled, meta={**example.meta, 'classes': teacher.classes})
        try:
            prediction = scaled.prediction(model)
        except Exception as error:  # a teacher of another library or task need not predict what can be drawn
            print_log(f'the predictions of the {teacher.name} cannot be drawn: {error}', logger='current', level=30)
            prediction = None
        view = build_view(model, teacher.name)
        return prediction, look(view, scaled.batch(), self._shown, 'teacher')

    def _draw(self, runner: Runner, step: int) -> None:
        student: nn.Module = _distiller_of(runner).student
        with forked_random_state(), torch.no_grad(), in_eval_mode(student):
            view = build_view(student, 'student')
            for index, (example, (prediction, taught)) in enumerate(zip(self._examples, self._taught, strict=True)):
                shown = look(view, example.batch(), self._shown, 'student')
                predictions = {'ground truth': example.truth()}
                if prediction is not None:
                    predictions['teacher'] = prediction
                predictions['student'] = example.prediction(student)
                for name, row in (
                    ('predictions', predictions),
                    ('energy', {key: one.draw_energy(example.image) for key, one in _pair(taught, shown)}),
                    ('affinities', _affinities(example, taught, shown)),
                ):
                    if row:
                        runner.visualizer.add_image(f'distill_{index}_{name}', side_by_side(row), step)


def _pair(taught: Knowledge | None, shown: Knowledge) -> list[tuple[str, Knowledge]]:
    return [('student', shown)] if taught is None else [('teacher', taught), ('student', shown)]


def _affinities(example: Example, taught: Knowledge | None, shown: Knowledge) -> dict[str, np.ndarray]:
    if taught is None or taught.affinities is None or shown.affinities is None:
        return {}
    place = taught.most_telling_place()
    return {key: one.draw_affinities(example.image, one.nearest(place, taught)) for key, one in _pair(taught, shown)}


def _distiller_of(runner: Runner) -> Distiller:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, Distiller):
        raise ValueError(
            f'custom_hooks: the DistillVisualizationHook needs a kddense.Distiller, got a {type(model).__name__}'
        )
    return model


def _at_scale(example: Example, factor: float) -> Example:
    """Return an image as a teacher sees that is given larger or smaller ones; its predictions fit the original."""
    if factor == 1:
        return example
    inputs, sample = example.item['inputs'], copy.deepcopy(example.item['data_samples'])
    height, width = (round(length * factor) for length in inputs.shape[-2:])
    resized = F.interpolate(inputs[None].float(), size=(height, width), mode='bilinear', align_corners=False)[0]
    meta: dict[str, Any] = dict(img_shape=(height, width))
    if 'scale_factor' in sample.metainfo:
        meta['scale_factor'] = tuple(scale * factor for scale in sample.scale_factor)
    sample.set_metainfo(meta)
    return replace(example, item=dict(inputs=resized, data_samples=sample))
