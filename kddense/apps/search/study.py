"""The study: Optuna chooses what is tried next; its storage lets many workers on many machines join."""

from __future__ import annotations

import datetime
import json
import math
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kddense.apps.program.process import locked
from kddense.errors import ConfigError, sentence_of
from kddense.files import write_whole
from kddense.report.metrics import Metric

from . import trial as trials
from .folder import another_study, folder_of, take
from .space import Search, config_of

SPACE = 'search'
TWINS = 'twins'
LOCK = 'lock'
MARK = 'mark'  # tells whether the folder of a trial is the one that is seen here
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
            ConfigError: If it, or the folder, is of another space, or the database cannot be opened.
            ImportError: If Optuna is not installed.
        """
        optuna = _optuna()
        name = 'with a teacher' if self.with_teacher else 'without a teacher'
        try:
            study = optuna.create_study(
                study_name=name,
                storage=self._storage(optuna),
                load_if_exists=True,
                direction='maximize',
                pruner=_pruner(optuna),
            )
        except Exception as error:  # of whatever database it is
            if not self.storage:
                raise
            raise ConfigError(f': {sentence_of(error)}', f"--storage '{self.storage}'") from error
        before, digest = study.user_attrs.get(SPACE), self.search.digest
        if before not in (None, digest):
            folder = 'folder with --work-dir'
            raise another_study(
                self.storage or self.work_dir,
                f'database with --storage and another {folder}' if self.storage else folder,
            )
        take(self.work_dir, digest, is_begun=before is not None)
        if before is None:
            study.set_user_attr(SPACE, digest)
        return study

    def work(self) -> Any:
        """Try students until the study is whole, those of others who are at work too; returns the study.

        No student is tried twice. One over the limit costs no training and does not count; one whose metric is not finite
        counts, and has no value.
        """
        optuna = _optuna()
        study = self.open()
        told: set[int] = set()
        while True:
            for number in self._take_over(study) - told:
                self.say(f'trial {number} is at work on another machine: if it is not, call the search there again')
                told.add(number)
            running = study.get_trials(deepcopy=False, states=(_State('RUNNING'),))
            ended = study.get_trials(deepcopy=False, states=(_State('COMPLETE'), _State('PRUNED')))
            tried = [one.params for one in (*running, *ended)]
            trained = len(running) + sum(self._is_trained(one) for one in ended)
            if trained < self.search.trials and len(tried) < self.search.size:
                # Of what is there, so that a search that was cut off goes on as it would have; and no two workers alike.
                seed = self.search.seed + len(tried) + 1000 * study.user_attrs.get(TWINS, 0)
                study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
                self._try(study, study.ask(), tried, random.Random(seed))
            elif running:
                time.sleep(trials.LOOK)
            else:
                return study

    def _try(self, study: Any, trial: Any, tried: Sequence[Mapping[str, str]], draw: random.Random) -> None:
        chosen = {name: trial.suggest_categorical(name, list(choices)) for name, choices in self.search.space.items()}
        if chosen in tried:  # Optuna asks for what it likes best again and again
            study.tell(trial, state=_State('FAIL'))
            while chosen in tried:
                chosen = {name: draw.choice(list(choices)) for name, choices in self.search.space.items()}
            study.enqueue_trial(chosen)
            return
        folder = folder_of(self.work_dir, study.user_attrs[SPACE], chosen)
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder / LOCK)
        if lock is None:  # another worker is at the same student: try another
            study.set_user_attr(TWINS, study.user_attrs.get(TWINS, 0) + 1)
            study.tell(trial, state=_State('FAIL'))
            return
        with lock:  # until its end is told: a trial of a folder that is not locked is one whose worker is gone
            mark = uuid.uuid4().hex
            write_whole(folder / MARK, mark.encode())
            trial.set_user_attr(MARK, mark)
            trial.set_user_attr('folder', str(folder.absolute()))
            self._end(study, trial, chosen, folder, lock)

    def _end(self, study: Any, trial: Any, chosen: Mapping[str, str], folder: Path, lock: IO[bytes]) -> None:
        """Train a student and tell the study what it came to."""
        try:
            value = self._value(trial, chosen, folder, lock)
        except Exception as error:  # choices are changes to any config, and may break it in any way
            study.tell(trial, state=_State('FAIL'))
            raise ConfigError(f'trial {trial.number} ({_words(chosen)}) failed: {sentence_of(error)}') from error
        if value is None or math.isnan(value):  # Optuna takes NaN for a failure, and what failed is tried again
            study.tell(trial, state=_State('PRUNED'))
            self.say(f'trial {trial.number}: {_words(chosen)}: {self._why_without(trial, value)}')
            return
        study.tell(trial, value)
        self.say(f'trial {trial.number}: {_words(chosen)}: {value:.3f}')

    def _value(self, trial: Any, chosen: Mapping[str, str], folder: Path, lock: IO[bytes]) -> float | None:
        config = config_of(self.search, chosen, self.with_teacher)
        file = folder / 'costs.json'
        costs = json.loads(file.read_text()) if file.exists() else trials.costs_of(config)
        write_whole(file, json.dumps(costs).encode())
        trial.set_user_attr('costs', costs)
        factor = self._factor(costs)
        if factor is None:
            return None

        def told(step: int, metrics: dict[str, float]) -> bool:
            trial.report(self._score(metrics, factor), step)
            return bool(trial.should_prune())

        metrics = trials.train(config, folder, told, lock)
        if metrics is None:
            return None
        trial.set_user_attr('metrics', metrics)
        return self._score(metrics, factor)

    def _score(self, metrics: dict[str, float], factor: float) -> float:
        """Return what a student comes to, NaN if that is not finite: an infinite value would be the best of all."""
        value = _weighed(_signed(metrics, self.search.metric), factor)
        return value if math.isfinite(value) else math.nan

    def _why_without(self, trial: Any, value: float | None) -> str:
        if value is not None:
            return 'its metric is not finite'
        return 'ended early' if self._is_trained(trial) else 'over the limit, not trained'

    def _is_trained(self, trial: Any) -> bool:
        costs = trial.user_attrs.get('costs')
        return costs is None or self._factor(costs) is not None

    def _factor(self, costs: Mapping[str, float]) -> float | None:
        """Return what a student over the limit is multiplied by; ``None`` if it is not tried."""
        if not self.search.limit:
            return 1.0
        name, most = next(iter(self.search.limit.items()))
        if costs[name] <= most:
            return 1.0
        return None if self.search.omega is None else reward(1.0, costs[name], most, self.search.omega)

    def _take_over(self, study: Any) -> set[int]:
        """Try again what workers tried who are gone: their trainings go on where they were.

        Returns:
            The trials in folders that are not seen here, of which nobody here can tell.
        """
        unseen = set()
        for one in study.get_trials(deepcopy=False, states=(_State('RUNNING'),)):
            folder = one.user_attrs.get('folder')
            if folder is None:
                self._give_up_late(study, one)
                continue
            if _mark_in(Path(folder)) != one.user_attrs.get(MARK):
                unseen.add(one.number)
                continue
            lock = locked(Path(folder) / LOCK)
            if lock is None:
                continue
            with lock:
                if study.get_trials(deepcopy=False)[one.number].state.is_finished():  # since the look at what runs
                    continue
                study.tell(one.number, state=_State('FAIL'))
                study.enqueue_trial(one.params)
        return unseen

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


def _weighed(value: float, factor: float) -> float:
    """Return a value that is the less the smaller the factor, also below 0, as that of a metric of which less is better."""
    return value * factor if value > 0 else value / factor


def _mark_in(folder: Path) -> str | None:
    return (folder / MARK).read_text() if (folder / MARK).exists() else None


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
