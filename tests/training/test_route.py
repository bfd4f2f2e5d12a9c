"""Routes of checkpoints: equal or greedy, at iterations, shares or epochs, in any precision, resumed, and bad ones."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from kddense import RouteHook
from kddense.compat import load_checkpoint
from kddense.training.route.anchors import Anchor, read_route

from ..contracts.test_resume import assert_equal


@pytest.fixture(scope='module')
def teacher(segmentor, tmp_path_factory):
    """The work_dir of a teacher's training: six checkpoints, each of weights of its own."""
    folder = tmp_path_factory.mktemp('teacher')
    whole = load_checkpoint(segmentor.teacher['checkpoint'])
    for number in range(1, 7):
        generator = torch.Generator().manual_seed(number)
        state = {
            key: value + 0.05 * number * torch.randn(value.shape, generator=generator)
            if value.is_floating_point() and 'running_var' not in key
            else value
            for key, value in whole.items()
        }
        torch.save(dict(meta={}, state_dict=state), folder / f'iter_{2 * number}.pth')
    return folder


@pytest.fixture
def train(segmentor, tmp_path):
    """Train a student along a route; returns the runner, and which checkpoint taught in each iteration."""

    def run(route, folder='run', resume=False, until=12, **options):
        config = segmentor.distilled(
            dict(soft=segmentor.objectives['soft']), train_cfg__val_interval=100, default_hooks__checkpoint__interval=2
        )
        config.model.teacher = {**segmentor.teacher, **options.pop('teacher', {})}
        config.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        config.default_hooks.random_state = dict(type='kddense.RandomStateHook')
        restart = config.pop('restart', False)
        config.default_hooks.route = dict(type='kddense.RouteHook', route=route, restart=restart)
        config.resume = resume
        runner = segmentor.runner(config, tmp_path / folder)
        runner.taught, runner.rates = [], []
        hook = Notes(until)
        runner.register_hook(hook, priority='VERY_LOW')
        with contextlib.suppress(StopError):
            runner.train()
        return runner

    return run


class StopError(Exception):
    pass


class Notes(Hook):
    """Notes who teaches, and at what rate the student learns; stops like a crash."""

    def __init__(self, until):
        self.until = until

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.until:
            raise StopError
        runner.taught.append(Path(runner.model.teachers['teacher'].checkpoint).stem)
        runner.rates.append(runner.optim_wrapper.get_lr()['lr'][0])


def test_anchors_at_equal_intervals():
    """240 epochs, a checkpoint each, four anchors: 60, 120, 180, 240."""
    chosen = [f'epoch_{round((one + 1) * 240 / 4)}' for one in range(4)]
    assert chosen == ['epoch_60', 'epoch_120', 'epoch_180', 'epoch_240']


def test_equal_intervals_of_a_folder(teacher):
    route = read_route(dict(folder=str(teacher), anchors=3))
    assert [(Path(one.checkpoint).stem, one.start) for one in route] == [
        ('iter_4', 0.0),
        ('iter_8', pytest.approx(1 / 3)),
        ('iter_12', pytest.approx(2 / 3)),
    ]


@pytest.mark.parametrize('options', [{}, dict(teacher=dict(precision='bf16'))], ids=['fp32', 'bf16'])
def test_the_student_follows(train, teacher, options):
    run = train(dict(folder=str(teacher), anchors=3), **options)
    assert run.taught == ['iter_4'] * 4 + ['iter_8'] * 4 + ['iter_12'] * 4
    assert len(set(run.rates)) == 12, 'one schedule over the whole'


def test_a_list_in_a_file_and_epochs(train, teacher, tmp_path):
    anchors = [dict(checkpoint=str(teacher / f'iter_{n}.pth'), start=start) for n, start in ((2, 0), (12, 5))]
    (tmp_path / 'route.json').write_text(json.dumps(anchors))
    assert train(str(tmp_path / 'route.json')).taught == ['iter_2'] * 5 + ['iter_12'] * 7
    assert Anchor('a.pth', epoch=3).first_iteration(100, epoch_length=7) == 21


def test_the_learning_rate_restarts(train, teacher):
    run = train(dict(folder=str(teacher), anchors=3), restart=True)
    assert run.rates[0] == run.rates[4] == run.rates[8] == 0.01
    assert run.rates[:4] == run.rates[4:8] == run.rates[8:]
    assert run.rates[3] < run.rates[2] < run.rates[1] < 0.01


@pytest.mark.parametrize('how', ['equal', 'greedy'])
@pytest.mark.parametrize('until', [5, 8], ids=['between', 'at a switch'])
def test_a_resumed_route_goes_on_bit_for_bit(train, teacher, how, until, tmp_path):
    of_greedy = dict(batches=1, delta=0.99) if how == 'greedy' else {}
    route = dict(folder=str(teacher), anchors=3, how=how, **of_greedy)
    whole = train(route, 'whole', restart=True)
    train(route, 'broken', restart=True, until=until)
    resumed = train(route, 'broken', resume=True, restart=True)
    begin = 12 - len(resumed.taught)
    assert resumed.taught == whole.taught[begin:]
    assert resumed.rates == whole.rates[begin:]
    one, other = (load_checkpoint(tmp_path / name / 'iter_12.pth') for name in ('whole', 'broken'))
    assert_equal(dict(one['state_dict']), dict(other['state_dict']))
    assert_equal(one['optimizer'], other['optimizer'])


def test_greedy_takes_the_first_that_is_far_enough(train, teacher, monkeypatch):
    """Divergences 1, 1.1, 1.2, 1.5: with δ = 0.8 the third candidate is the first with 1 / 1.5 < 0.8."""
    asked = []

    def measured(runner, name, one, checkpoints, batches):
        asked.append([Path(checkpoint).stem for checkpoint in checkpoints])
        yield from [1.0, 1.1, 1.2, 1.5, 9.0, 9.0][: len(checkpoints)]

    monkeypatch.setattr('kddense.training.route.hook.divergences', measured)
    run = train(dict(folder=str(teacher), how='greedy', every=4))
    assert asked[0] == ['iter_2', 'iter_4', 'iter_6', 'iter_8', 'iter_10', 'iter_12']
    assert asked[1] == ['iter_8', 'iter_10', 'iter_12']
    assert run.taught == ['iter_2'] * 4 + ['iter_8'] * 4 + ['iter_12'] * 4, 'the last one if none is far enough'


def test_the_learning_rate_restarts_for_greedy_anchors_too(train, teacher, monkeypatch):
    """Measuring leaves the teacher with the chosen weights; that is a switch all the same."""

    def measured(runner, name, one, checkpoints, batches):
        for number, checkpoint in enumerate(checkpoints):
            one.load(checkpoint)
            yield 1.0 + number

    monkeypatch.setattr('kddense.training.route.hook.divergences', measured)
    run = train(dict(folder=str(teacher), how='greedy', every=4), restart=True)
    assert run.taught == ['iter_2'] * 4 + ['iter_4'] * 4 + ['iter_6'] * 4
    assert run.rates[0] == run.rates[4] == run.rates[8] == 0.01
    assert run.rates[:4] == run.rates[4:8] == run.rates[8:]


def test_greedy_anchors_with_restarts_begin_with_whole_epochs(teacher):
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop.dataloader = [None] * 5
    model = SimpleNamespace(teachers=dict(teacher=SimpleNamespace(load=lambda file: None)))
    run = SimpleNamespace(model=model, train_loop=loop, max_iters=20, iter=1)
    for every, fits in ((0.25, True), (0.2, False), (10, True)):
        hook = RouteHook(dict(folder=str(teacher), how='greedy', every=every), restart=True)
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match='must begin with whole epochs'):
            hook.before_train(run)


def test_a_greedy_route_waits_while_nothing_compares(train, teacher):
    route = dict(folder=str(teacher), how='greedy', every=2, batches=1, delta=0.99)
    later = dict(model__objectives__soft__weight=dict(value=1.0, start=5))
    run = train(route, until=9, restart=True, **later)
    assert run.taught[:6] == ['iter_2'] * 6
    assert run.rates[:6] == sorted(run.rates[:6], reverse=True), 'no restart'
    assert run.taught[8] != 'iter_2'


def test_a_resumed_greedy_route_is_found_where_its_folder_is_now(teacher):
    hook = RouteHook(dict(folder=str(teacher), how='greedy'))
    files = hook.route.candidates
    assert hook._went(files) == []
    before = dict(route=[[0, '/elsewhere/iter_2.pth'], [4, '/elsewhere/iter_6.pth']])
    hook.after_load_checkpoint(SimpleNamespace(_resume=True), before)
    assert hook._went(files) == [(0, str(teacher / 'iter_2.pth')), (4, str(teacher / 'iter_6.pth'))]
    with pytest.raises(ValueError, match=r"route.folder: '.*' lacks iter_6.pth, where the resumed training went"):
        hook._went(files[:2])


def test_what_is_measured_changes_nothing(train, teacher):
    """A route that stays where it is, by a δ that all pass or none could, trains as one teacher does."""
    from kddense.training.route.divergence import divergences

    run = train([dict(checkpoint=str(teacher / 'iter_2.pth'), start=0)], until=3)
    model = run.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state, modes = torch.get_rng_state(), [one.training for one in model.modules()]
    files = [str(teacher / f'iter_{n}.pth') for n in (2, 12, 2)]
    found = list(divergences(run, 'teacher', model.teachers['teacher'], files, 2))
    assert found[0] == found[2]
    assert found[1] > 0
    assert found[0] != found[1]
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [one.training for one in model.modules()]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('weight', ['10%', dict(value=1.0, stop_below=1.0, patience=2, every=4)])
@pytest.mark.parametrize('until', [3, 4])
def test_distances_are_measured_with_weights_that_stay(train, teacher, weight, until):
    """Whether or not the iteration is one in which they would be measured anew."""
    from kddense.training.route.divergence import divergences

    if isinstance(weight, str):
        weight = dict(value=weight, every=4)
    start = [dict(checkpoint=str(teacher / 'iter_2.pth'), start=0)]
    run = train(start, until=until, model__objectives__soft__weight=weight)
    files = [str(teacher / f'iter_{n}.pth') for n in (2, 6, 12)]
    objective = run.model.named_objectives['soft']
    before = copy.deepcopy(objective.state_dict())
    shares = list(divergences(run, 'teacher', run.model.teachers['teacher'], files, 2))
    run.model.named_objectives['soft'].share = run.model.named_objectives['soft'].stop = None
    plain = list(divergences(run, 'teacher', run.model.teachers['teacher'], files, 2))
    assert shares[0] > 0
    assert [one / shares[0] for one in shares] == pytest.approx([one / plain[0] for one in plain])
    assert shares == pytest.approx(plain) or weight['value'] == '10%'
    assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())


def test_a_checkpoint_of_another_architecture_stops_before_the_first_step(train, teacher, segmentor, tmp_path):
    folder = tmp_path / 'mixed'
    shutil.copytree(teacher, folder)
    student = segmentor.build(segmentor.plain().model)
    torch.save(student.state_dict(), folder / 'iter_8.pth')
    with pytest.raises(ValueError, match="teacher.checkpoint '.*iter_8.pth' is of another architecture"):
        train(dict(folder=str(folder), anchors=3))
    assert not (tmp_path / 'run/iter_2.pth').exists()


@pytest.mark.parametrize(
    'route, sentence',
    [
        ([dict(checkpoint='a', start=0), dict(checkpoint='b', start=0)], 'route has no order: anchor 1 begins at 0'),
        ([dict(checkpoint='a', start=0), dict(checkpoint='b', start=9), dict(checkpoint='c', start=4)], 'has no order'),
        ([dict(checkpoint='a', start=3)], 'the first anchor begins at 3'),
        (
            [dict(checkpoint='a', start=0), dict(checkpoint='b', epoch=3), dict(checkpoint='c', start=4)],
            'all anchors must',
        ),
        ([dict(checkpoint='a')], r'route\[0\] needs either start'),
        ([dict(checkpoint='a', star=0)], r"route\[0\] has no key 'star'"),
        ([3], r'route\[0\] must be a dict with a checkpoint and a start, got 3'),
        ([], 'route must be a text, a list of values or a dict, and not empty'),
        ('nowhere.json', "route: there is no file 'nowhere.json'"),
        (dict(folder='nowhere'), "route.folder: 'nowhere' holds no checkpoints"),
        (dict(folder='nowhere', how='best'), "route.how must be 'equal' or 'greedy'"),
        (
            dict(folder='nowhere', delta=0.5),
            "route.delta is of greedy anchors alone: remove it, or set route.how='greedy'",
        ),
        (dict(folder='nowhere', how='greedy', delta=2), 'route.delta must be above 0 and at most 1, got 2'),
        (dict(folder='nowhere', anchors=0), 'route.anchors must be a whole number of at least 1'),
    ],
)
def test_bad_routes_are_one_sentence(route, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        RouteHook(route)


def test_a_file_that_is_no_list(tmp_path):
    (tmp_path / 'route.json').write_text('a.pth\nb.pth\n')
    with pytest.raises(ValueError, match='is no JSON list of anchors'):
        RouteHook(str(tmp_path / 'route.json'))


def test_what_only_the_run_knows(train, teacher):
    first = str(teacher / 'iter_2.pth')
    with pytest.raises(ValueError, match='begins at iteration 40, after the training, which has 12'):
        train([dict(checkpoint=first, start=0), dict(checkpoint=first, start=40)])
    with pytest.raises(ValueError, match='an anchor begins at an epoch, but the run counts iterations'):
        train([dict(checkpoint=first, epoch=0), dict(checkpoint=first, epoch=1)])
