"""Who is compared in a report: the runs of teacher, plain student and distilled students."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from kddense.compat.checkpoint import local_file
from kddense.configs import is_distiller, plain_model, read_config, teachers_in
from kddense.training.quantised import drop_quantising
from kddense.training.runs import Run, read_run

from .contents import Entrant
from .curves import GREY, LIGHT, PALETTE
from .evaluation import plain_config

TEACHER, PLAIN, SAME_TIME = 'teacher', 'plain student', 'plain student, same time'


def read_entrants(
    distilled: Sequence[str | Path],
    plain: str | Path | None,
    teacher: str | Path | None,
    same_time: str | Path | None = None,
) -> list[Entrant]:
    """Read the runs that a report compares: the teacher first, then the plain students, then the distilled ones.

    Args:
        distilled: Work_dirs of distillations.
        plain: The work_dir of the plain student, if there is one.
        teacher: The teacher's; by default it is what the first distillation's config names.
        same_time: That of a plain student that trained as long by the clock, if there is one.
    """
    taught = [read_run(folder, _title(folder, distilled)) for folder in distilled]
    if teacher is not None:
        first = Entrant(TEACHER, 'teacher', GREY, read_run(teacher, TEACHER))
    else:
        first = Entrant(TEACHER, 'teacher', GREY, _teacher_of(taught[0]))
    entrants = [first]
    if plain is not None:
        entrants.append(Entrant(PLAIN, 'plain', PALETTE[0], read_run(plain, PLAIN)))
    if same_time is not None:
        entrants.append(Entrant(SAME_TIME, 'same time', LIGHT, read_run(same_time, SAME_TIME)))
    colours = (PALETTE[1 + index % (len(PALETTE) - 1)] for index in range(len(taught)))
    entrants.extend(Entrant(run.title, 'distilled', colour, run) for run, colour in zip(taught, colours, strict=True))
    for entrant in entrants:
        config = entrant.run.config
        entrant.config = plain_config(config) if config is not None and 'model' in config else None
    return entrants


def _title(folder: str | Path, all_of_them: Sequence[str | Path]) -> str:
    if len(all_of_them) == 1:
        return 'distilled student'
    names = [Path(one).name for one in all_of_them]
    return Path(folder).name if names.count(Path(folder).name) == 1 else str(folder)


def _teacher_of(run: Run) -> Run:
    """Return what a distillation's config says of its teacher, of the first if there are several."""
    if run.config is None:
        return Run(TEACHER, run.folder)
    model = run.config.get('model', {'type': ''})
    named = next(iter(teachers_in(model).values()), None) if is_distiller(model) else None
    if named is None:
        return Run(TEACHER, run.folder, faults=[f'{run.title}: its config names no teacher to show beside it'])
    if 'config' not in named:
        fault = f'{TEACHER}: a {named.get("type")} is no model of OpenMMLab and not shown; give the work_dir of one'
        return Run(TEACHER, run.folder, faults=[fault])
    try:
        config = _seeing_the_same(_whole(read_config(named['config'], TEACHER)), run.config)
        checkpoint = local_file(named['checkpoint']) if named.get('checkpoint') else None
    except Exception as error:  # a config is code, which may fail in any way
        return Run(TEACHER, run.folder, faults=[f'{TEACHER}: its config or weights cannot be read: {error}'])
    faults = [] if checkpoint else [f'{TEACHER}: {run.title} was taught without a checkpoint of a teacher']
    return Run(TEACHER, run.folder, config, None, checkpoint, faults=faults)


def _seeing_the_same(teacher: Config, run: Config) -> Config:
    """Return the config of a teacher with the data sets and metrics of the run that it taught, whose images it saw."""
    scope = run.get('default_scope')
    if teacher.get('default_scope', scope) != scope:
        return teacher
    seen = copy.deepcopy(run)
    seen.model = plain_model(teacher)
    drop_quantising(seen)  # as a teacher computes
    return seen


def _whole(config: Mapping[str, Any]) -> Config:
    """Return a whole config: a teacher's may be that of its model alone."""
    if isinstance(config, Config):
        return config
    return Config(config if 'model' in config else dict(model=config))
