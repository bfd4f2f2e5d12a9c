"""A run that has begun, for steps that are taken without it: objectives know its data set, schedules its length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from kddense.apps.same_model import check_same_model
from kddense.compat import load_checkpoint
from kddense.distiller.state import own_state, own_state_in
from kddense.training.average_hook import KEY, averages_of
from kddense.training.settings import steps_of
from kddense.training.unlabelled import UnlabelledImagesHook


def begin(runner: Runner, loader: DataLoader[Any]) -> int:
    """Tell the model what a training tells it before its first step, and initialise its weights; no hook is called.

    Args:
        runner: Whose model is about to take steps.
        loader: Its training data.

    Returns:
        How many iterations the whole run has.
    """
    steps, unit = steps_of(runner.cfg)
    iterations = steps if unit == 'iterations' else steps * len(loader)
    runner.message_hub.update_info('cfg', runner.cfg.pretty_text)
    runner.message_hub.update_info('max_iters', iterations)
    runner.model.init_weights()
    _begin_averages(runner.model, {})
    return iterations


def take_over(model: Any, student: str | None) -> None:
    """Let a distiller go on from where a training left it.

    What objectives learnt, connectors say, is taken over where it is of this config. Averages of the student are those of
    the checkpoint, or else the student as it is.

    Args:
        model: The distiller.
        student: A checkpoint of its student; ``None`` for the student as it is.

    Raises:
        ConfigError: If the checkpoint is of another model.
    """
    contents = load_checkpoint(student) if student else {}
    if student:
        check_same_model(model.student, contents, student)
        _load(model, contents.get('state_dict', contents))
    _begin_averages(model, contents.get(KEY, {}))


def _load(model: Any, state: Mapping[str, Any]) -> None:
    """Load the student, and what objectives learnt as far as it fits."""
    model.student.load_state_dict({key.removeprefix('module.'): one for key, one in state.items()}, strict=False)
    own = own_state(model)
    fitting = {key: one for key, one in own_state_in(state).items() if key in own and own[key].shape == one.shape}
    model.objectives.load_state_dict(
        {key.removeprefix('objectives.'): one for key, one in fitting.items()}, strict=False
    )


def _begin_averages(model: Any, saved: Mapping[str, Any]) -> None:
    for name, teacher in averages_of(model).items():
        if name in saved:
            teacher.go_on(saved[name])
        else:
            teacher.check_is(model.student)
            teacher.begin(model.student)


def with_added_images(runner: Runner, batches: Iterator[Any]) -> Iterator[Any]:
    """Yield batches with the images without labels that the runner's hooks add in a training."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, UnlabelledImagesHook)]
    for hook in hooks:
        hook.before_train(runner)
    for index, batch in enumerate(batches):
        for hook in hooks:
            hook.before_train_iter(runner, index, batch)
        yield batch


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches, from the beginning again after the last."""
    while True:
        yield from loader
