"""A quantised student in a run: what it trains and saves, how it is tested, resumed, averaged, exported and refused."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper

from kddense import QuantiseHook
from kddense.apps import export, test
from kddense.compat import load_checkpoint
from kddense.quantisation import bucketed, choose_layers

from ..helpers import plugins, tiny
from ..helpers.quantised import FAMILIES, SGD, begun, calm, equal, metric_in, of_family, plugin_free, run_of
from ..helpers.two_processes import in_two_processes

BUCKETS = dict(type='kddense.BucketedQuantiser', bits=3, rounding='stochastic')
POINTS = dict(type='kddense.LearnedPointsQuantiser', bits=2)
STUDENT = tiny.segmentor('pspnet_r50-d8')
DATA = tiny.segmentation_data()


def quantised(task, weights, folder, name='run', hooks=(), optimizer=None, **options):
    """Train a toy task with a hook: eight iterations, with a checkpoint and a validation after each fourth."""
    config = task.distilled(train_cfg__max_iters=8, **options)
    own = dict(optimizer=optimizer) if optimizer else {}
    config.default_hooks.quantise = dict(type='kddense.QuantiseHook', weights=weights, **own)
    config.custom_hooks = [dict(type='kddense.RandomStateHook'), *hooks]
    config.dump(folder / f'{name}.py')
    return task.train(config, folder / name)


@pytest.mark.parametrize('weights', [BUCKETS, POINTS], ids=['stochastic', 'points'])
def test_a_run_saves_float_weights_and_resumes_bit_for_bit(segmentor, tmp_path, weights):
    """With an average of the student, in low precision; the checkpoint is the plain student's."""
    average = [dict(type='EMAHook', momentum=0.1)]
    amp = dict(optim_wrapper__type='AmpOptimWrapper', optim_wrapper__dtype='bfloat16')
    options = dict(hooks=average, optimizer=dict(SGD) if weights is POINTS else None, **amp)
    whole = quantised(segmentor, weights, tmp_path, **options)
    last = load_checkpoint(tmp_path / 'run' / 'iter_8.pth')
    plain = segmentor.build(segmentor.plain().model)
    plain.load_state_dict(last['state_dict'])
    chosen = choose_layers(plain, (), 'float')
    assert len(chosen) > 20
    assert all(len(layer.weight.unique()) > 2 ** weights['bits'] for layer in chosen.values())

    start = tmp_path / 'run' / 'iter_4.pth'
    resumed = quantised(segmentor, weights, tmp_path, 'resumed', load_from=str(start), resume=True, **options)
    assert equal(whole.model.state_dict(), resumed.model.state_dict())
    again = load_checkpoint(tmp_path / 'resumed' / 'iter_8.pth')
    assert equal(dict(last['ema_state_dict']), dict(again['ema_state_dict']))
    if weights is POINTS:
        points = [one['quantised']['points'] for one in (last, again)]
        assert equal(*points)
        begun = load_checkpoint(start)['quantised']
        assert not equal(begun['points'], points[0])
        assert all((one.diff() >= 0).all() for one in points[0].values())
        assert points[0].keys() == chosen.keys()
        # What is rounded to points rests: neither gradients nor weight decay move it.
        before = load_checkpoint(start)['ema_state_dict']['module.decode_head.bottleneck.conv.weight']
        assert torch.equal(before, last['ema_state_dict']['module.decode_head.bottleneck.conv.weight'])
        assert not torch.equal(
            load_checkpoint(start)['ema_state_dict']['module.decode_head.conv_seg.weight'],
            last['ema_state_dict']['module.decode_head.conv_seg.weight'],
        )
    else:
        assert 'quantised' not in last


def test_its_tests_are_those_of_the_exported_weights(segmentor, tmp_path, capsys):
    """The student in the run, ``kddense test`` with the hook, and the plain student with exported weights agree."""
    student = quantised(segmentor, POINTS, tmp_path, optimizer=dict(SGD)).model.student
    checkpoint = load_checkpoint(tmp_path / 'run' / 'iter_8.pth')
    with torch.no_grad():  # so short a training finds one class
        student.decode_head.conv_seg.weight.normal_(generator=torch.Generator().manual_seed(0))
    checkpoint['state_dict']['decode_head.conv_seg.weight'] = student.decode_head.conv_seg.weight.detach()
    torch.save(checkpoint, tmp_path / 'varied.pth')
    capsys.readouterr()
    of_the_run = ['--config', str(tmp_path / 'run.py')]
    export.main([str(tmp_path / 'varied.pth'), str(tmp_path / 'rounded.pth'), *of_the_run, '--quantised'])
    told = capsys.readouterr().out
    assert 'note: quantised weights: ' in told
    assert ' times as many' in told
    assert 'the float ones' not in told
    export.main([str(tmp_path / 'varied.pth'), str(tmp_path / 'floats.pth'), *of_the_run])
    assert 'kddense.QuantiseHook (weights are the float ones; --quantised rounds them)' in capsys.readouterr().out

    measured = {}
    for config, weights in (('run', 'varied'), ('rounded', 'rounded'), ('floats', 'floats')):
        test.main([f'{tmp_path}/{config}.py', f'{tmp_path}/{weights}.pth', '--work-dir', f'{tmp_path}/{weights}'])
        measured[weights] = metric_in(tmp_path / weights)
    assert measured['varied'] == measured['rounded'] != measured['floats']

    rounded, floats = (load_checkpoint(tmp_path / f'{one}.pth')['state_dict'] for one in ('rounded', 'floats'))
    plain = segmentor.build(segmentor.plain().model).eval()
    chosen = choose_layers(plain, (), 'float')
    assert rounded.keys() == floats.keys()
    assert {key for key in floats if not torch.equal(rounded[key], floats[key])} == {f'{one}.weight' for one in chosen}
    plain.load_state_dict(rounded)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain(image), student.eval()(image))


def test_only_the_student_is_quantised():
    """Neither the teacher, nor the layers of objectives; the teacher's answers are as ever."""
    teacher = tiny.segmentor('pspnet_r50-d8', width=16)
    hint = dict(hint=dict(type='kddense.FeatureObjective', tap='backbone.layer3'))
    model = tiny.distiller(STUDENT, teacher, hint, 'mmseg')
    own = [*model.teachers['teacher'].modules(), *model.objectives.modules()]
    plugins.at_iteration(0)
    image = torch.rand(1, 3, 64, 64)
    before = model.teachers['teacher'].model.eval()(image)
    plain = model.student.eval()(image)
    begun(model, dict(type='kddense.TernaryQuantiser'))
    assert not any(one._forward_pre_hooks for one in own)
    assert torch.equal(model.teachers['teacher'].model(image), before)
    assert not torch.equal(model.student.eval()(image), plain)
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg')


def test_gradients_are_those_of_a_student_whose_weights_were_rounded_before():
    model = plugin_free()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for layer in choose_layers(other, (), 'float').values():
            layer.weight.copy_(bucketed(layer.weight, 3))
    begun(model, dict(BUCKETS, rounding='nearest'))
    for one in (model, other):
        torch.manual_seed(0)
        tiny.total(tiny.step(one, DATA)).backward()
    for (name, own), rounded in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(own.grad, rounded.grad), name


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_learns_with_few_bits_and_predicts(family):
    """All quantised layers learn that do without; a step and predictions differ from those of the float weights."""
    moved, found = [], []
    for quantises in (False, True):
        model, make = of_family(family)
        if quantises:
            begun(model, dict(type='kddense.BucketedQuantiser', bits=2, rounding='stochastic'))
        before = copy.deepcopy(model.state_dict())
        torch.manual_seed(0)
        found.append(plugins.train(model, make(), steps=1)[0]['loss'])
        moved.append({key for key, value in model.state_dict().items() if not torch.equal(before[key], value)})
        assert model.eval().test_step(copy.deepcopy(make()))
        assert all(isinstance(one, torch.nn.Parameter) for one in model.parameters())
    assert found[0] != found[1]
    assert {f'{path}.weight' for path in choose_layers(model, (), 'float')} & moved[0] <= moved[1]


def test_points_learn_by_the_gradient_without_the_scale_of_the_loss():
    """The scale of the loss is taken out again, and accumulated batches are one."""
    model = plugin_free()
    wrapper = build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0), accumulative_counts=2)
    )
    hook, run = begun(model, POINTS, wrapper, optimizer=dict(type='SGD', lr=1.0))
    wrapper.initialize_count_status(model, 0, 4)

    class Scaler:
        def get_scale(self):
            return 256.0

    wrapper.loss_scaler = Scaler()
    start = hook.weights.learnt()
    hook.before_train_iter(run, 0)
    for one in hook.weights.parameters():
        one.grad = torch.full_like(one, 256.0)
    hook.after_train_iter(run, 0)
    assert equal(hook.weights.learnt(), start) is (not wrapper.should_update())
    wrapper._inner_count = 2
    hook.after_train_iter(run, 1)
    moved = hook.weights.learnt()
    assert all(torch.allclose(moved[key], start[key] - 1) for key in start)
    assert not any(one.grad is not None and one.grad.any() for one in hook.weights.parameters())


def test_infinite_gradients_move_no_points():
    model = plugin_free()
    hook, run = begun(model, POINTS, optimizer=dict(type='SGD', lr=1.0))
    start = hook.weights.learnt()
    for one in hook.weights.parameters():
        one.grad = torch.full_like(one, float('inf'))
    hook.after_train_iter(run, 0)
    assert equal(hook.weights.learnt(), start)


@pytest.mark.parametrize('weights', [BUCKETS, POINTS], ids=['stochastic', 'points'])
def test_two_processes_with_half_the_batch_each_are_one(tmp_path, weights):
    learns = dict(optimizer=dict(SGD)) if weights is POINTS else {}
    start = calm().state_dict()

    def train(rank=None):
        model = calm()
        model.load_state_dict(start)
        data = DATA
        if rank is not None:
            data = {key: value[rank : rank + 1] for key, value in DATA.items()}
            model = MMDistributedDataParallel(model)
        hook, run = begun(model, weights, **learns)
        for run.iter in range(2):
            hook.before_train_iter(run, run.iter)
            model.train_step(copy.deepcopy(data), run.optim_wrapper)
            hook.after_train_iter(run, run.iter)
        points = hook.weights.learnt() if weights is POINTS else {}
        return {**{key.removeprefix('module.'): value for key, value in model.state_dict().items()}, **points}

    two = in_two_processes(train, tmp_path)
    one = train()
    assert equal(*two)
    for key, value in one.items():
        torch.testing.assert_close(two[0][key], value, rtol=1e-3, atol=1e-5, msg=key)
    assert any(not torch.equal(one[key], value) for key, value in start.items())


def test_layers_that_round_to_zeros_alone_are_told(monkeypatch):
    told = []
    monkeypatch.setattr('kddense.training.quantise.print_log', lambda text, **_: told.append(text))
    dead = 'quantised layers round to zeros alone, such as backbone.stem.3'
    begun(plugin_free(), dict(type='kddense.WRPNQuantiser', bits=2))
    assert dead in told[-1]
    assert 'WRPNQuantiser has steps too large' in told[-1]
    begun(plugin_free(), dict(type='kddense.TernaryQuantiser'))
    assert dead not in told[-1]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(weights=dict(type='kddense.UniformQuantiser', bits=9)), r'weights\.bits must be 2 to 8 for symmetric'),
        (
            dict(weights=dict(type='kddense.UniformQuantiser', bits=2.5)),
            r'weights\.bits must be a whole number, got 2\.5',
        ),
        (dict(weights=dict(bits=4)), "weights needs the key 'type', a quantiser such as"),
        (dict(weights=dict(type='kddense.UniformQuantizer', bits=4)), 'the nearest names are .*UniformQuantiser'),
        (dict(weights=dict(type='kddense.Discriminator', in_channels=3)), 'weights: Discriminator is no quantiser'),
        (dict(weights=POINTS), r'optimizer is needed where points learn'),
        (dict(weights=BUCKETS, optimizer=SGD), 'optimizer: BucketedQuantiser learns nothing: remove it'),
        (dict(weights=BUCKETS, ends='none'), "ends must be one of 'float', 'quantised', got 'none'"),
        (dict(weights=BUCKETS, skip='neck'), "skip must be a list of texts, got 'neck'"),
    ],
)
def test_bad_options_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        QuantiseHook(**options)
    assert '\n' not in str(caught.value)


def test_checkpoints_of_other_points_are_refused():
    model = plugin_free()
    hook, run = begun(model, POINTS, optimizer=dict(SGD))
    checkpoint = {}
    hook.before_save_checkpoint(run, checkpoint)

    def resumed(weights=POINTS, loaded=checkpoint, **options):
        other = QuantiseHook(weights, optimizer=dict(SGD), **options)
        again = run_of(plugin_free())
        again._resume = True
        other.after_load_checkpoint(again, loaded)
        other.before_train(again)

    resumed()
    with pytest.raises(ValueError, match='are of other layers, they differ in 1 such as backbone.stem.3'):
        resumed(skip=[r'backbone\.stem\.3'])
    with pytest.raises(ValueError, match=r'4 learned points of the layer .* and weights\.bits=3 makes 8'):
        resumed(dict(POINTS, bits=3))
    with pytest.raises(ValueError, match='the checkpoint holds no learned points'):
        resumed(loaded={})
    untrained = QuantiseHook(POINTS, optimizer=dict(SGD))
    with pytest.raises(ValueError, match='the checkpoint holds no learned points'):
        untrained.before_test(run_of(plugin_free()))


def test_a_compiled_student_is_refused():
    hook = QuantiseHook(BUCKETS)
    with pytest.raises(ValueError, match='compile: the QuantiseHook exchanges weights'):
        hook.before_run(run_of(plugin_free(), compile=True))


def test_an_export_without_the_hook_is_refused(segmentor, tmp_path):
    config = segmentor.distilled(train_cfg__max_iters=4)
    config.dump(tmp_path / 'run.py')
    segmentor.train(config, tmp_path / 'run')
    with pytest.raises(SystemExit, match='error: the config of the run has no kddense.QuantiseHook'):
        export.main([str(tmp_path / 'run'), str(tmp_path / 'out.pth'), '--quantised'])
    assert not (tmp_path / 'out.pth').exists()
