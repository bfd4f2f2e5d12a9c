"""Say what a run can tell of why distillation helps or harms: agreement, gradients, gap, geometry.

    kddense diagnose configs/hinton/hinton_lite2_r18-w16_fpn_camvid.py --student work_dirs/…/iter_600.pth --page why.html

takes training batches and compares student and teacher sample by sample: how often they guess alike, how well each is
calibrated, how sure the teacher is, how far it is ahead; the ratio and the angle of the gradients of each objective and the
task; and, of segmentors, Phuong and Lampert's quantities on the teacher's last layer.
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor

from kddense.apps.command_line import ConfigOptions, change_config, count, in_one_sentence, new_parser
from kddense.apps.measure.gradients import distils, ready_to_step, shares_of
from kddense.configs import find_config, read_config_file, teachers_in
from kddense.distiller.written import objectives_of
from kddense.files import write_whole
from kddense.report.simple_page import write_page
from kddense.teachers import ModelTeacher

from .figures import agreement, angle_of, geometry, joined, numbers_of
from .observer import ClassObserver

NAME = 'diagnosis'


def diagnose(
    config: Config, student: str | None = None, batches: int = 4, teacher: str | None = None
) -> dict[str, Any]:
    """Compare student and teacher on training batches.

    Args:
        config: A training config whose model is a :class:`kddense.Distiller`.
        student: A checkpoint of the student; without it, the student is as its config initialises it.
        batches: How many.
        teacher: The name of the teacher to compare with; the first of several without it.

    Returns:
        ``agreement``, ``gradients`` by objective, and of segmentors ``geometry``; see :mod:`kddense.apps.diagnose.figures`.

    Raises:
        ValueError: If the model is no distiller, or has no classifier to compare.
    """
    config = copy.deepcopy(config)
    if distils(config):
        chosen = teacher or next(iter(teachers_in(config.model)), None)
        observer = dict(type='kddense.ClassObserver', teacher=chosen)
        config.model.objectives = {**objectives_of(config.model.objectives), NAME: observer}
    with ready_to_step(config, student) as (model, loader):
        shares = []
        for _ in range(batches):
            found = shares_of(model, next(loader))
            found.pop(NAME)
            shares.append(found)
        listener: Any = model.objectives[NAME]
        assert isinstance(listener, ClassObserver)
        heard = joined(listener.heard)
        figures: dict[str, Any] = {
            'samples': len(heard.labels),
            'agreement': agreement(heard, listener.classes == 'sigmoid'),
            'gradients': {name: _mean([one[name] for one in shares]) for name in shares[0]},
        }
        weight = _last_layer(model.teachers[listener.taught_by[0]])
        if heard.teacher_feature is not None and weight is not None:
            figures['geometry'] = geometry(heard, weight)
    return figures


def _last_layer(teacher: Any) -> Tensor | None:
    """Return the weight of a segmentor's classifier, of the student's classes; ``None`` of other models, and of several."""
    if not isinstance(teacher, ModelTeacher):
        return None
    layer = getattr(getattr(teacher.model, 'decode_head', None), 'conv_seg', None)
    if not isinstance(layer, torch.nn.Conv2d) or layer.kernel_size != (1, 1):
        return None
    weight = layer.weight.detach().float().cpu().flatten(1)
    return weight if teacher.class_map is None else weight[teacher.class_map]


def _mean(found: Sequence[dict[str, float]]) -> dict[str, float]:
    mean = {key: statistics.mean(one[key] for one in found) for key in found[0]}
    if mean.get('ratio') == 0:  # no gradient has no angle
        del mean['cosine']
    return mean | ({'angle': angle_of(mean['cosine'])} if 'cosine' in mean else {})


def lines_of(figures: dict[str, Any]) -> list[str]:
    """Return what the figures say, a line each."""
    own = figures['agreement']
    lines = [
        f'{figures["samples"]} samples: one guess on {own["top1"]:.1%}, divergence {own["divergence"]:.3f} nats',
        f'right: student {own["student_accuracy"]:.1%}, teacher {own["teacher_accuracy"]:.1%}, a gap of {own["gap"]:+.1%}',
        f'calibration error: student {own["student_ece"]:.3f}, teacher {own["teacher_ece"]:.3f}',
        f'entropy of the teacher: {own["teacher_entropy"]:.3f} nats',
    ]
    for name, one in figures['gradients'].items():
        if name != 'task' and one['ratio'] == 0:
            lines.append(
                f'gradient of {name}: none at the beginning of the run, where it is off or there is nothing to learn'
            )
        elif name != 'task':
            lines.append(f"gradient of {name}: {one['ratio']:.2f} of the task's, at {one['angle']:.0f}°")
    if 'geometry' in figures:
        found = figures['geometry']
        lines += [
            f"the teacher's last layer: {found['angle']:.0f}° to the samples (median), of which {found['span']:.1%} is in "
            f'their span; bound on the disagreement {found["bound"]:.3f}',
            f"a linear layer on the student's features can follow {found['reach']:.1%} of it",
        ]
    return lines


@in_one_sentence()
def main(argv: Sequence[str] | None = None) -> int:
    """Print the diagnosis; write it as JSON and as a page."""
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config that distils')
    parser.add_argument('--student', help='a checkpoint of the student; as it is initialised without one')
    parser.add_argument('--batches', type=count, default=4)
    parser.add_argument('--teacher', help='the name of the teacher to compare with; the first of several without it')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--page', type=Path, help='also write a page')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='changes to the config')
    args = parser.parse_args(argv)
    MMLogger.get_instance('diagnose', log_level='ERROR')
    config = read_config_file(find_config(args.config))
    change_config(config, args.cfg_options)
    figures = diagnose(config, args.student, args.batches, args.teacher)
    lines = lines_of(figures)
    print('\n'.join(lines))
    if args.json:
        write_whole(args.json, (json.dumps({'config': args.config, **numbers_of(figures)}, indent=2) + '\n').encode())
    if args.page:
        title, figures = 'What the run tells of why', numbers_of(figures)
        write_page(args.page, 'diagnosis.html', title, config=args.config, lines=lines, figures=figures)
    return 0
