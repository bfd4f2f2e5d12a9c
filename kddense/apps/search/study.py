"""The study: Optuna chooses what is tried next; its storage lets many workers on many machines join."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kddense.apps.program.process import locked
from kddense.errors import ConfigError
from kddense.report.metrics import Metric

from . import trial as trials
from .space import Search, config_of, folder_of

SPACE = 'search'
TWINS = 'twins'
LOCK = 'lock'
CHOOSING = 60.0
MISSING = "a search needs Optuna: pip install 'kddense[search]'"


@dataclass(frozen=True)
class Worker:
    """Tries students until there are as many as the search asks for.

    Attributes:
        search: What is searched.
        work_dir: Where trainings go, and the study's journal, if no storage is named.
        storage: A database that workers share, as Optuna takes it; the journal in ``work_dir`` by default, which needs a
            folder that they share.
        with_teacher: Whether students learn from the teacher.
        say: Takes lines.
    """

    search: Search
    work_dir: Path
    storage: str | None = None
    with_teacher: bool = True
    say: Callable[[str], None] = print

    def open(self) -> Any:
        """Return the study.

        Raises:
            ConfigError: If it is of another space.
            ImportError: If Optuna is not installed.
        """
        optuna = _optuna()
        name = 'with a teacher' if self.with_teacher else 'without a teacher'
        study = optuna.create_study(
            study_name=name,
            storage=self._storage(optuna),
            load_if_exists=True,
            direction='maximize',
            pruner=_pruner(optuna),
        )
        before = study.user_attrs.get(SPACE)
        if before is None:
            study.set_user_attr(SPACE, self.search.digest)
        elif before != self.search.digest:
            raise ConfigError(
                f'{self.storage or self.work_dir} holds a study of another space, config or schedule: choose another folder '
                'with --work-dir, what is there stays'
            )
        return study

    def work(self) -> Any:
        """Try students until the study is whole, those of others who are at work too; returns the study."""
        optuna = _optuna()
        study = self.open()
        while True:
            self._take_over(study)
            running = study.get_trials(deepcopy=False, states=(_State('RUNNING'),))
            ended = study.get_trials(deepcopy=False, states=(_State('COMPLETE'), _State('PRUNED')))
            count = len(running) + len(ended)
            if count < self.search.trials:
                # Of what is there, so that a search that was cut off goes on as it would have; and no two workers alike.
                seed = self.search.seed + count + 1000 * study.user_attrs.get(TWINS, 0)
                study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
                self._try(study, study.ask())
            elif running:
                time.sleep(trials.LOOK)
            else:
                return study

    def _try(self, study: Any, trial: Any) -> None:
        chosen = {name: trial.suggest_categorical(name, list(choices)) for name, choices in self.search.space.items()}
        folder = folder_of(self.work_dir, chosen)
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder / LOCK)
        if lock is None:  # another worker is at the same student: try another
            study.set_user_attr(TWINS, study.user_attrs.get(TWINS, 0) + 1)
            study.tell(trial, state=_State('FAIL'))
            return
        with lock:  # until its end is told: a trial of a folder that is not locked is one whose worker is gone
            trial.set_user_attr('folder', str(folder))
            self._end(study, trial, chosen, folder, lock)

    def _end(self, study: Any, trial: Any, chosen: Mapping[str, str], folder: Path, lock: IO[bytes]) -> None:
        """Train a student and tell the study what it came to."""
        try:
            value = self._value(trial, chosen, folder, lock)
        except (RuntimeError, ValueError, OSError) as error:
            study.tell(trial, state=_State('FAIL'))
            raise ConfigError(f'trial {trial.number} ({_words(chosen)}) failed: {error}') from error
        if value is None:
            study.tell(trial, state=_State('PRUNED'))
            self.say(f'trial {trial.number}: {_words(chosen)}: ended early')
            return
        study.tell(trial, value)
        self.say(f'trial {trial.number}: {_words(chosen)}: {value:.3f}')

    def _value(self, trial: Any, chosen: Mapping[str, str], folder: Path, lock: IO[bytes]) -> float | None:
        config = config_of(self.search, chosen, self.with_teacher)
        file = folder / 'costs.json'
        costs = json.loads(file.read_text()) if file.exists() else trials.costs_of(config)
        file.write_text(json.dumps(costs))
        trial.set_user_attr('costs', costs)
        factor = self._factor(costs)
        if factor is None:
            return None

        def told(step: int, metrics: dict[str, float]) -> bool:
            trial.report(factor * _signed(metrics, self.search.metric), step)
            return bool(trial.should_prune())

        metrics = trials.train(config, folder, told, lock)
        if metrics is None:
            return None
        trial.set_user_attr('metrics', metrics)
        return factor * _signed(metrics, self.search.metric)

    def _factor(self, costs: Mapping[str, float]) -> float | None:
        """Return what a student over the limit is multiplied by; ``None`` if it is not tried."""
        if not self.search.limit:
            return 1.0
        name, most = next(iter(self.search.limit.items()))
        if costs[name] <= most:
            return 1.0
        return None if self.search.omega is None else reward(1.0, costs[name], most, self.search.omega)

    def _take_over(self, study: Any) -> None:
        """Try again what workers tried who are gone: their trainings go on where they were."""
        for one in study.get_trials(deepcopy=False, states=(_State('RUNNING'),)):
            folder = one.user_attrs.get('folder')
            if folder is None:
                self._give_up_late(study, one)
                continue
            lock = locked(Path(folder) / LOCK)
            if lock is None:
                continue
            with lock:
                if study.get_trials(deepcopy=False)[one.number].state.is_finished():  # since the look at what runs
                    continue
                study.tell(one.number, state=_State('FAIL'))
                study.enqueue_trial(one.params)

    def _give_up_late(self, study: Any, trial: Any) -> None:
        """Leave a trial that began a minute ago and has no folder yet: its worker was gone before it chose."""
        if (datetime.datetime.now() - trial.datetime_start).total_seconds() > CHOOSING:
            study.tell(trial.number, state=_State('FAIL'))

    def _storage(self, optuna: Any) -> Any:
        if self.storage:
            return self.storage
        self.work_dir.mkdir(parents=True, exist_ok=True)
        journal = optuna.storages.journal
        return optuna.storages.JournalStorage(journal.JournalFileBackend(str(self.work_dir / 'study.log')))


def reward(metric: float, cost: float, limit: float, omega: float = -0.07) -> float:
    """Return AKD's reward: the metric, of one over the limit times (cost / limit)^ω."""
    return metric * (cost / limit) ** omega if cost > limit else metric


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of those that nothing beats at the same or a lower cost, by cost.

    Args:
        points: Cost and value by name.
    """
    found, best = [], -math.inf
    for name, (_, value) in sorted(points.items(), key=lambda one: (one[1][0], -one[1][1])):
        if value > best:
            best = value
            found.append(name)
    return found


def _signed(metrics: dict[str, float], name: str | None) -> float:
    key = trials.metric_in(metrics, name)
    return metrics[key] * (Metric.of(key).sign or 1)


def _words(chosen: Mapping[str, str]) -> str:
    return ', '.join(f'{name} {choice}' for name, choice in chosen.items())


def _pruner(optuna: Any) -> Any:
    return optuna.pruners.MedianPruner(n_startup_trials=4)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ImportError(MISSING) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _State(name: str) -> Any:  # noqa: N802
    return _optuna().trial.TrialState[name]
