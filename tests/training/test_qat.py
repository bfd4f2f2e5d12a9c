"""Activations of few bits in a run: what is saved, resumed, tested, calibrated, exported and refused."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel

from kddense import QuantiseHook
from kddense.apps import export, test
from kddense.compat import load_checkpoint
from kddense.errors import ConfigError
from kddense.quantisation import choose_layers, scales_of
from kddense.training.quantised import FloatRunHook

from ..helpers import plugins, tiny
from ..helpers.quantised import FAMILIES, SGD, begun, calm, equal, metric_in, of_family, plugin_free
from ..helpers.two_processes import in_two_processes

INT8 = dict(weights=dict(type='kddense.UniformQuantiser', bits=8), activations=dict(type='kddense.MinMaxQuantiser'))
FEW = dict(
    weights=dict(type='kddense.UniformQuantiser', bits=3),
    activations=dict(type='kddense.MinMaxQuantiser', bits=3, freeze_after=6),
    fold_norms=True,
)
LSQ = dict(
    weights=dict(type='kddense.LSQQuantiser', bits=3),
    activations=dict(type='kddense.LSQActivationQuantiser', bits=3),
    fold_norms=True,
    optimizer=dict(SGD, lr=1e-3),
)
LSQ8 = dict(LSQ, weights=dict(LSQ['weights'], bits=8), activations=dict(LSQ['activations'], bits=8))
DATA = tiny.segmentation_data()


def trained(task, hook, folder, name='run', hooks=(), **options):
    """Train a toy task with a hook: eight iterations, with a checkpoint and a validation after each fourth."""
    config = task.distilled(train_cfg__max_iters=8, **options)
    config.default_hooks.quantise = dict(hook, type='kddense.QuantiseHook')
    config.custom_hooks = [dict(type='kddense.RandomStateHook'), *hooks]
    config.dump(folder / f'{name}.py')
    return task.train(config, folder / name)


def same(one, other):
    """Compare what two checkpoints keep."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize('hook', [FEW, LSQ], ids=['ranges', 'learned steps'])
def test_a_run_saves_float_weights_and_scales_and_resumes_bit_for_bit(segmentor, tmp_path, hook):
    """With an average of the student, in low precision; the state dict is the plain student's."""
    average = [dict(type='EMAHook', momentum=0.1)]
    options = dict(
        hooks=average, optim_wrapper__type='AmpOptimWrapper', optim_wrapper__dtype='bfloat16', train_cfg__val_interval=4
    )
    whole = trained(segmentor, hook, tmp_path, **options)
    last, start = (load_checkpoint(tmp_path / 'run' / f'iter_{number}.pth') for number in (8, 4))
    plain = segmentor.build(segmentor.plain().model)
    plain.load_state_dict(last['state_dict'])
    chosen = choose_layers(plain, (), 'float')
    assert all(len(layer.weight.unique()) > 8 for layer in chosen.values())

    resumed = trained(
        segmentor, hook, tmp_path, 'resumed', load_from=str(tmp_path / 'run' / 'iter_4.pth'), resume=True, **options
    )
    again = load_checkpoint(tmp_path / 'resumed' / 'iter_8.pth')
    assert equal(whole.model.state_dict(), resumed.model.state_dict())
    assert equal(dict(last['ema_state_dict']), dict(again['ema_state_dict']))
    assert same(last['quantised'], again['quantised'])
    assert not same(last['quantised']['seen'], start['quantised']['seen'])

    scales = scales_of(last)
    assert scales.keys() == chosen.keys()
    assert all(one.input is not None and one.weight is not None for one in scales.values())
    assert sum(one.norm is not None for one in scales.values()) > 20
    # Scales that follow the weights do so whether these were averaged or not; learned ones are their own.
    trained_weights = {key.removeprefix('module.'): value for key, value in last['ema_state_dict'].items()}
    others = scales_of(last, trained_weights)
    differ = any(not torch.equal(scales[path].weight.scale, others[path].weight.scale) for path in scales)
    assert differ is (hook is FEW)


def vary(student, path):
    """Give a checkpoint, and the student it is from, a last layer that finds several classes."""
    checkpoint = load_checkpoint(path)
    with torch.no_grad():
        student.decode_head.conv_seg.weight.normal_(generator=torch.Generator().manual_seed(0))
    checkpoint['state_dict']['decode_head.conv_seg.weight'] = student.decode_head.conv_seg.weight.detach()
    torch.save(checkpoint, path.with_name('varied.pth'))
    return str(path.with_name('varied.pth'))


def measured(config, checkpoint, folder):
    test.main([str(config), str(checkpoint), '--work-dir', str(folder)])
    return metric_in(folder)


def test_a_run_its_test_and_its_export_compute_the_same(segmentor, tmp_path):
    """And ``load_from`` in a float run takes the float weights alone: a checkpoint with scales harms nothing there."""
    student = trained(segmentor, FEW, tmp_path).model.student
    run = tmp_path / 'run.py'
    varied = vary(student, tmp_path / 'run' / 'iter_8.pth')
    export.main([varied, str(tmp_path / 'rounded.pth'), '--config', str(run), '--quantised'])
    rounded = load_checkpoint(tmp_path / 'rounded.pth')
    plain = segmentor.build(segmentor.plain().model).eval()
    plain.load_state_dict(rounded['state_dict'])
    own, exported = scales_of(load_checkpoint(varied)), scales_of(rounded)
    assert own.keys() == exported.keys()
    for path, one in own.items():
        torch.testing.assert_close(one.weight.scale, exported[path].weight.scale)
        assert one.input == exported[path].input

    before = measured(run, varied, tmp_path / 'before')
    assert measured(run, tmp_path / 'rounded.pth', tmp_path / 'after') == before
    assert measured(tmp_path / 'rounded.py', tmp_path / 'rounded.pth', tmp_path / 'floats') != before

    bare = load_checkpoint(varied)
    del bare['quantised']
    torch.save(bare, tmp_path / 'bare.pth')
    found = []
    for source in (varied, str(tmp_path / 'bare.pth')):
        config = segmentor.plain(train_cfg__max_iters=2, load_from=source)
        found.append(segmentor.train(config, tmp_path / f'from_{len(found)}').model.state_dict())
    assert equal(*found)
    assert not any(
        path.stem.startswith('iter') and 'quantised' in load_checkpoint(path) for path in tmp_path.glob('from_*/*.pth')
    )


@pytest.mark.parametrize(
    'checkpoint, hooks, said',
    [
        ({}, [], []),
        ({'quantised': {}}, [QuantiseHook(INT8['weights'])], []),
        (
            {'quantised': {}},
            [],
            ['the checkpoint is of a run with a kddense.QuantiseHook, and this config has none: the model'],
        ),
    ],
)
def test_a_checkpoint_with_scales_in_a_float_run(monkeypatch, checkpoint, hooks, said):
    """Its weights are taken, and that is told; the run itself cannot go on."""
    found = []
    monkeypatch.setattr('kddense.training.quantised.print_log', lambda message, **_: found.append(message))
    run = SimpleNamespace(hooks=hooks, _resume=False)
    FloatRunHook().after_load_checkpoint(run, checkpoint)
    assert [message[: len(start)] for message, start in zip(found, said, strict=True)] == said
    run._resume = True
    if said:
        with pytest.raises(
            ConfigError, match='^resume: the checkpoint is of a run with a kddense.QuantiseHook, and this'
        ):
            FloatRunHook().after_load_checkpoint(run, checkpoint)
    else:
        FloatRunHook().after_load_checkpoint(run, checkpoint)


def test_a_float_student_is_calibrated_without_training(segmentor, tmp_path, capsys):
    """Post-training quantisation: the float weights stay, images set the ranges, the same ones each time."""
    config = segmentor.distilled(train_cfg__max_iters=2)
    segmentor.train(config, tmp_path / 'float')
    source = str(next((tmp_path / 'float').glob('iter_*.pth')))
    config.default_hooks.quantise = dict(INT8, type='kddense.QuantiseHook')
    config.dump(tmp_path / 'qat.py')
    with pytest.raises(SystemExit, match='error: the checkpoint holds no ranges of activations, which MinMaxQuantiser'):
        measured(tmp_path / 'qat.py', source, tmp_path / 'uncalibrated')
    state = torch.get_rng_state()
    for name in ('one', 'two'):
        options = ['--config', str(tmp_path / 'qat.py'), '--quantised', '--calibrate', '2']
        export.main([source, str(tmp_path / f'{name}.pth'), *options])
    assert torch.equal(torch.get_rng_state(), state)
    assert 'which are given 8 bits' in capsys.readouterr().out
    one, two = (load_checkpoint(tmp_path / f'{name}.pth') for name in ('one', 'two'))
    assert same(one['quantised'], two['quantised'])
    floats = load_checkpoint(source)['state_dict']
    for key, value in one['state_dict'].items():
        torch.testing.assert_close(value, floats[key], rtol=0, atol=float(floats[key].abs().max()) / 200)
    # An auxiliary head, which predicts nothing, never ran.
    assert {path.split('.')[0] for path, layer in scales_of(one).items() if layer.input is None} == {'auxiliary_head'}
    measured(tmp_path / 'qat.py', tmp_path / 'one.pth', tmp_path / 'calibrated')


def test_calibrated_and_written_in_8_bits_in_one_call(segmentor, tmp_path):
    """By the scales that were found now, not by those that the checkpoint holds of an earlier time."""
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    config = segmentor.plain()
    config.default_hooks.quantise = dict(INT8, type='kddense.QuantiseHook')
    config.dump(tmp_path / 'qat.py')
    torch.save(dict(state_dict=segmentor.build(config.model).state_dict()), tmp_path / 'float.pth')
    options = ['--config', str(tmp_path / 'qat.py'), '--quantised', '--calibrate', '1']
    export.main([str(tmp_path / 'float.pth'), str(tmp_path / 'old.pth'), *options])
    old = load_checkpoint(tmp_path / 'old.pth')
    for steps in old['quantised']['inputs'].values():
        steps['scale'] *= 3
    torch.save(old, tmp_path / 'stale.pth')

    for source in ('float', 'stale'):
        out = tmp_path / f'from_{source}.pth'
        export.main([str(tmp_path / f'{source}.pth'), str(out), *options, '--onnx', '--int8', '--shape', '64', '64'])
        graph = onnx.load(str(out.with_suffix('.int8.onnx'))).graph
        constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
        found = {constants[node.input[1]].item() for node in graph.node if node.op_type == 'QuantizeLinear'}
        scales = {one.input.scale.item() for one in scales_of(load_checkpoint(out)).values() if one.input is not None}
        assert len(found) > 10
        assert found <= scales

    for seen, message in (
        ({}, 'activations: no observer of the run saw anything'),
        (3, 'the checkpoint holds no ranges'),
    ):
        torch.save({**old, 'quantised': {**old['quantised'], 'seen': seen}}, tmp_path / 'nothing.pth')
        with pytest.raises(SystemExit, match=f'^error: {message}'):
            export.main([str(tmp_path / 'nothing.pth'), str(tmp_path / 'none.pth'), *options[:3]])
    assert not list(tmp_path.glob('none*'))


@pytest.mark.parametrize(
    'change, options, message',
    [
        (None, ['--calibrate', '1'], 'calibrate: scales belong to quantised weights: add --quantised'),
        (None, ['--quantised'], 'the checkpoint holds no ranges of activations, which MinMaxQuantiser needs'),
        (
            lambda config: config.default_hooks.quantise.pop('activations'),
            ['--quantised', '--calibrate', '1'],
            'calibrate: the QuantiseHook of the run rounds no activations: give it',
        ),
        (
            lambda config: config.train_dataloader.dataset.update(data_root='nowhere'),
            ['--quantised', '--calibrate', '1'],
            'calibrate: train_dataloader cannot be read: ',
        ),
    ],
)
def test_what_cannot_be_calibrated_is_one_sentence_and_nothing_is_written(
    segmentor, tmp_path, change, options, message
):
    config = segmentor.plain()
    config.default_hooks.quantise = dict(INT8, type='kddense.QuantiseHook')
    if change is not None:
        change(config)
    config.dump(tmp_path / 'qat.py')
    torch.save(dict(state_dict=segmentor.build(config.model).state_dict()), tmp_path / 'float.pth')
    with pytest.raises(SystemExit) as caught:
        export.main(
            [str(tmp_path / 'float.pth'), str(tmp_path / 'out.pth'), '--config', str(tmp_path / 'qat.py'), *options]
        )
    assert str(caught.value).startswith(f'error: {message}')
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize('hook', [INT8, LSQ], ids=['ranges', 'learned steps'])
@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_trains_and_predicts_with_few_bits(family, hook):
    """From the second step on: the first one is watched. What runs in tests was seen in training."""
    model, make = of_family(family)
    own, run = begun(model, **hook)
    before = copy.deepcopy(model.state_dict())
    found = []
    for run.iter in range(2):
        own.before_train_iter(run, run.iter)
        torch.manual_seed(0)
        found.append(plugins.train(model, make(), steps=1, lr=1e-3)[0]['loss'])
        own.after_train_iter(run, run.iter)
    assert all(torch.isfinite(torch.tensor(found)))
    own.before_val(run)
    assert model.eval().test_step(copy.deepcopy(make()))
    assert model.state_dict().keys() == before.keys()
    assert len(own.activations.known) > len(own.quantised.layers) * 0.8
    with torch.no_grad():
        quantised = own.quantised
        quantised.remove()
        floats = model.test_step(copy.deepcopy(make()))
        quantised.attach()
        rounded = model.test_step(copy.deepcopy(make()))
    assert str(floats) != str(rounded)


def test_recomputed_activations_give_the_same_gradients():
    """What is rounded in the backward pass meets the steps of the forward pass."""
    found = []
    for recomputes in (False, True):
        model = tiny.build(tiny.segmentor('pspnet_r50-d8', {'backbone.with_cp': recomputes}), scope='mmseg').train()
        tiny.shake(model)
        for norm in (one for one in model.modules() if isinstance(one, torch.nn.BatchNorm2d)):
            norm.momentum = 0.0  # recomputing moves a statistic twice
        own, run = begun(model, **FEW)
        for run.iter in range(2):
            own.before_train_iter(run, run.iter)
            model.zero_grad()
            torch.manual_seed(0)
            tiny.total(tiny.step(model, DATA)).backward()
            own.after_train_iter(run, run.iter)
        found.append((own.activations.learnt(), [one.grad for one in model.parameters()]))
    assert equal(found[0][0], found[1][0])
    for own, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('hook', [INT8, LSQ8], ids=['ranges', 'learned steps'])
def test_two_processes_with_half_the_batch_each_are_one(tmp_path, hook):
    start = calm().state_dict()

    def train(rank=None):
        model = calm()
        model.load_state_dict(start)
        data = DATA
        if rank is not None:
            data = {key: value[rank : rank + 1] for key, value in DATA.items()}
            model = MMDistributedDataParallel(model)
        own, run = begun(model, **hook)
        for run.iter in range(3):
            own.before_train_iter(run, run.iter)
            model.train_step(copy.deepcopy(data), run.optim_wrapper)
            own.after_train_iter(run, run.iter)
        weights = {key.removeprefix('module.'): value for key, value in model.state_dict().items()}
        return {**weights, **{f'seen {key}': value for key, value in own.activations.learnt().items()}}

    two = in_two_processes(train, tmp_path)
    one = train()
    assert equal(*two)
    assert one.keys() == two[0].keys()
    for key, value in one.items():
        torch.testing.assert_close(two[0][key], value, rtol=2e-2, atol=2e-3, msg=key)
    assert any(not torch.equal(one[key], value) for key, value in start.items())


def test_learned_steps_of_weights_and_activations_move():
    model = plugin_free()
    own, run = begun(model, **LSQ)
    for run.iter in range(2):
        own.before_train_iter(run, run.iter)
        tiny.total(tiny.step(model, DATA)).backward()
        before = own.weights.learnt(), own.activations.learnt()
        own.after_train_iter(run, run.iter)
    after = own.weights.learnt(), own.activations.learnt()
    assert all(
        any(not torch.equal(one[key], other[key]) for key in one) for one, other in zip(before, after, strict=True)
    )
    assert all((value[0] > 0).all() for value in after[1].values())


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(INT8, activations=dict(type='kddense.MinMaxQuantiser', bits=9)), r'activations\.bits must be 2 to 8 for'),
        (dict(INT8, activations=dict(type='kddense.MinMaxQuantiser', bits=0)), r'activations\.bits must be 2 to 8 for'),
        (dict(INT8, activations=dict(type='kddense.MinMaxQuantiser', mode='log')), r'activations\.mode must be one of'),
        (dict(INT8, activations=dict(bits=8)), "activations needs the key 'type', a quantiser such as 'kddense.MinMax"),
        (dict(INT8, activations=INT8['weights']), 'activations: UniformQuantiser is no quantiser of activations'),
        (dict(INT8, weights=INT8['activations']), 'weights: MinMaxQuantiser is no quantiser of weights'),
        (dict(LSQ, optimizer=None), 'optimizer is needed where steps of weights learn: dict'),
        (dict(LSQ, weights=INT8['weights'], optimizer=None), 'optimizer is needed where steps of activations learn'),
    ],
)
def test_bad_options_are_one_sentence(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        QuantiseHook(**options)
    assert '\n' not in str(caught.value)


def test_scales_of_other_layers_are_refused():
    model = plugin_free()
    own, run = begun(model, **INT8)
    tiny.step(model, DATA)
    own.after_train_iter(run, 0)
    checkpoint = {}
    own.before_save_checkpoint(run, checkpoint)
    other = QuantiseHook(**INT8, skip=['decode_head'])
    other.after_load_checkpoint(run, checkpoint)
    with pytest.raises(ValueError, match='ranges of activations in the checkpoint are of other layers, .* decode_head'):
        other.before_test(SimpleNamespace(model=plugin_free()))


def test_the_recipe_is_the_hook_and_a_loss_for_any_family():
    recipe = Config.fromfile('configs/_base_/recipes/qat.py')
    assert QuantiseHook(**{key: value for key, value in recipe.quantise.items() if key != 'type'}).fold_norms
    assert list(recipe.distiller.objectives) == ['features']
