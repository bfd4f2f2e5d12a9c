"""Rows of pictures that compare the models of a report: what they predict, and what was distilled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from mmengine.runner import set_random_seed
from torch import nn

from kddense.configs import is_distiller
from kddense.random_state import forked_random_state
from kddense.views import build_view

from .contents import Entrant, Report, first_line
from .entrants import TEACHER
from .evaluation import build_model
from .examples import Example
from .figure import Figure, picture_source
from .knowledge import Knowledge, look, shown_by


def add_predictions(report: Report) -> None:
    """Show the ground truth, and what each model predicts."""
    able = report.at_work()
    for index, example in enumerate(able[0].examples if able else []):
        try:
            row = [Figure('ground truth', picture_source(example.truth()))]
            for entrant in able:
                assert entrant.model is not None
                with torch.no_grad():
                    picture = entrant.examples[index].prediction(entrant.model)
                row.append(Figure(entrant.title, picture_source(picture)))
        except Exception as error:  # as where they are measured
            report.faults.append(f'{example.name}: predictions could not be drawn: {first_line(error)}')
            continue
        report.predictions.append((example.name, row))


def add_knowledge(report: Report) -> None:
    """Show what was distilled, as teacher, untrained, plain and distilled student show it."""
    able = report.at_work()
    taught = next((entrant for entrant in able if entrant.role == 'distilled'), None)
    if taught is None or taught.run.config is None or not is_distiller(taught.run.config.model):
        return
    objectives = shown_by(taught.run.config.model.get('objectives') or {})
    models = {entrant.title: (entrant, entrant.model) for entrant in able if entrant.role == 'teacher'}
    untrained = _untrained(report, taught)
    if untrained is not None:
        models['student before training'] = (taught, untrained)
    models.update({entrant.title: (entrant, entrant.model) for entrant in able if entrant.role != 'teacher'})
    for index, example in enumerate(taught.examples):
        try:
            shown = {
                title: look(
                    build_view(model, entrant.title),
                    entrant.examples[index].batch(),
                    objectives,
                    'teacher' if entrant.role == 'teacher' else 'student',
                )
                for title, (entrant, model) in models.items()
                if model is not None
            }
        except Exception as error:  # as where they are measured
            report.faults.append(f'what was distilled could not be shown: {first_line(error)}')
            return
        pictures = {title: one.draw_energy(example.image) for title, one in shown.items()}
        report.energies.append((example.name, _figures(pictures)))
        report.pairs.extend(_pairs(example, shown))


def _untrained(report: Report, entrant: Entrant) -> nn.Module | None:
    if entrant.config is None or entrant.model is None:
        return None
    seed = entrant.run.environment.get('seed', '0')
    try:
        with forked_random_state():
            set_random_seed(int(seed) if seed.isdigit() else 0)
            return build_model(entrant.config).to(next(entrant.model.parameters()).device)
    except Exception as error:  # weights that it starts from may be a download
        report.faults.append(f'the student before training cannot be shown: {first_line(error)}')
        return None


def _pairs(example: Example, shown: Mapping[str, Knowledge]) -> list[tuple[str, list[Figure]]]:
    """Return a row of affinities, if an objective compares pairs: to one place, that which tells most in the teacher."""
    known = {title: one for title, one in shown.items() if one.affinities is not None}
    reference = known.get(TEACHER)
    if reference is None or reference.affinities is None:
        return []
    place = reference.most_telling_place()
    figures = []
    for title, one in known.items():
        distance = one.distance(reference)
        caption = title if one is reference or distance is None else f'{title}, {distance:.3f} from the teacher'
        figures.append(
            Figure(caption, picture_source(one.draw_affinities(example.image, one.nearest(place, reference))))
        )
    return [(example.name, figures)]


def _figures(pictures: Mapping[str, np.ndarray]) -> list[Figure]:
    return [Figure(title, picture_source(picture)) for title, picture in pictures.items()]
