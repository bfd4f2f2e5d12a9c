"""The step benchmark: what it measures, on toy models."""

import gc
import itertools
import json
import subprocess
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from kddense.apps import step_rows
from kddense.apps.benchmark import made_up_batch, main, measure
from kddense.apps.step_rows import measure_rows, table
from kddense.apps.steps import build
from kddense.objectives.shares import GradientShare
from kddense.registry import MODELS
from kddense.teachers import FrozenTeacher
from kddense.teachers.cache.store import _Shard

from ..helpers.clocks import counting_clock

SCRIPT = Path(__file__).parents[2] / 'tools' / 'benchmark_step.py'


def test_every_piece_is_timed(task):
    costs = measure(task.distilled(), (2, 64, 64), rounds=3, warmup=1, clock='cpu')
    assert set(costs.objectives) == set(task.objectives)
    assert min(costs.student, costs.teacher, *costs.objectives.values()) > 0
    assert costs.student < costs.step
    assert costs.ratio == pytest.approx(costs.step / (costs.student + costs.teacher), rel=0.5)
    assert costs.rounds == 3


def test_objectives_are_timed_at_full_weight(one_stage):
    """Also those whose schedule begins with 0, or counts in shares of a training that there is not; memories know images."""
    weights = dict(later=dict(value=1, start=10), first=dict(value=50, stop=0.1))
    objectives = {name: dict(type='kddense.FSPObjective', weight=weight) for name, weight in weights.items()}
    objectives['memory'] = dict(type='kddense.CRDObjective', size=20, dim=8)
    costs = measure(one_stage.distilled(objectives), (1, 64, 64), rounds=1, warmup=0, clock='cpu')
    assert min(costs.objectives.values()) > 0
    assert set(costs.objectives) == {'later', 'first', 'memory'}


def test_memories_are_full(segmentor):
    objectives = dict(bank=dict(type='kddense.CRDObjective', size=20, dim=8))
    objectives['queues'] = dict(type='kddense.CIRKDObjective', pixel_queue=6, region_queue=5)
    built = []
    with patch('kddense.apps.benchmark.build', lambda *args: built.append(build(*args)) or built[0]):
        measure(segmentor.distilled(objectives), (2, 64, 64), rounds=1, warmup=0, clock='cpu')
    bank, queues = (built[0].objectives[name] for name in ('bank', 'queues'))
    assert [len(one.ids) for one in bank.banks] == [20, 20]
    assert (queues.pixel_queues[0].counts >= 6).all()
    assert (queues.region_queues[0].counts >= 5).all()


def test_the_script_prints_and_writes_the_figures(detector, python, tmp_path):
    config, figures = tmp_path / 'config.py', tmp_path / 'figures.json'
    detector.distilled().dump(config)
    options = ['--shape', '1', '64', '64', '--rounds', '1', '--threads', '1', '--json', figures]
    command = [python, SCRIPT, '--config', config, *options, '--cfg-options', 'model.teacher.precision=bf16']
    printed = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout
    written = json.loads(figures.read_text())
    assert f'{written["ratio"]:9.3f}' in printed
    assert written['shape'] == [1, 64, 64]
    assert written['options'] == {'model.teacher.precision': 'bf16'}
    assert set(written['objectives']) == {'rpn', 'roi', 'hint'}


def test_nothing_of_a_step_stays_alive(task):
    """The teacher adds its weights and one forward's maps, and nothing is kept between steps."""
    config = task.distilled()
    task._import()
    model = MODELS.build(config.model)
    batch = made_up_batch(model.student, (2, 64, 64), 'cpu')

    def step() -> int:
        model.zero_grad()
        model.parse_losses(model(**batch, mode='loss'))[0].backward()
        gc.collect()
        return sum(tensor.numel() for tensor in gc.get_objects() if type(tensor) is torch.Tensor)

    step()
    after_two = step()
    assert step() == after_two
    teacher_maps = model.teachers['teacher'].model.backbone(batch['inputs'])
    assert sum(level.numel() for level in teacher_maps) > 0  # what would have stayed


@pytest.mark.parametrize('name', ['segmentor', 'detector', 'one_stage', 'depth'])
def test_whole_steps_stand_beside_the_plain_one(name, request):
    config = request.getfixturevalue(name).distilled()
    rows = ['online', 'cold', 'cached', 'fast']
    found = measure_rows(config, (2, 64, 64), 'cpu', rows, rounds=2, warmup=1)
    assert list(found['rows']) == ['plain', *rows, 'teacher']
    assert min(found['rows'].values()) > 0
    assert found['to_plain']['plain'] == 1
    assert found['to_parts']['plain'] < 1
    assert found['versions'].startswith('torch')
    printed = table(found)
    assert f'{found["to_plain"]["cached"]:10.3f}' in printed


@pytest.mark.parametrize('name', ['cached', 'fast'])
def test_answers_are_read_from_disk(name, segmentor, monkeypatch):
    read = _Shard.read
    keys = []
    monkeypatch.setattr(_Shard, 'read', lambda self, key: [keys.append(key), read(self, key)][1])
    measure_rows(segmentor.distilled(), (2, 64, 64), 'cpu', [name], rounds=2, warmup=1)
    assert len(keys) == 2 * 3  # images of each step


@pytest.mark.parametrize('has', [True, False])
def test_a_fast_student_computes_in_bfloat16_where_that_is_fast(has, segmentor, monkeypatch):
    monkeypatch.setattr(step_rows, 'has_arithmetic', lambda *_: has)
    step, lows = step_rows.step, []
    monkeypatch.setattr(step_rows, 'step', lambda *args, low: [lows.append(low), step(*args, low=low)][1])
    found = measure_rows(segmentor.distilled(), (2, 64, 64), 'cpu', ['cached', 'fast'], rounds=1, warmup=0)
    assert found['fast_student'] == ('bf16' if has else 'fp32')
    assert lows.count(True) == (2 if has else 0)  # once to fill the folder
    assert ('student in bfloat16' in table(found)) == has


def test_a_quantised_student_stands_beside_the_plain_one(segmentor):
    config = segmentor.distilled()
    with pytest.raises(ValueError, match='the config of the run has no kddense.QuantiseHook'):
        measure_rows(config, (2, 64, 64), 'cpu', ['quantised'])
    config.default_hooks.quantise = dict(type='kddense.QuantiseHook', weights=dict(type='kddense.TernaryQuantiser'))
    found = measure_rows(config, (2, 64, 64), 'cpu', ['quantised'], rounds=2, warmup=1)
    assert list(found['rows']) == ['plain', 'quantised', 'teacher']
    assert 'the same, quantised' in table(found)


class TestMeanSteps:
    """Rows whose steps are not all alike, by a clock that tells what a step did."""

    @pytest.fixture
    def rows(self, segmentor):
        """A function that takes rows; a step takes a second, and so many more for each call of a method."""

        def measured(owner, method, more, names, **weight):
            config = segmentor.distilled()
            config.model.objectives = dict(soft=dict(type='kddense.PixelWiseObjective', **weight))
            with counting_clock(step_rows, owner, method, more):
                return measure_rows(config, (2, 64, 64), 'cpu', names, rounds=3, warmup=1)

        return measured

    def test_three_students_behind_one_teacher(self, rows):
        found = rows(FrozenTeacher, 'answer', 3, ['online', 'cold', 'shared', 'cached'])
        assert found['rows'] == pytest.approx(
            dict(plain=1000, online=4000, cold=4000, shared=(4000 + 2 * 1000) / 3, cached=1000, teacher=1000)
        )
        assert found['to_online']['shared'] == pytest.approx(0.5)
        assert f'{0.5:10.3f}' in table(found)

    def test_weights_are_measured_once_in_so_many_steps(self, rows):
        weight = dict(value='10%', every=4, stop=0.5)
        found = rows(GradientShare, 'set', 8, ['online', 'weighed'], weight=weight)
        assert found['rows'] == pytest.approx(
            dict(plain=1000, online=1000, weighed=(9000 + 3 * 1000) / 4, teacher=1000)
        )

    def test_a_weight_that_is_a_number_is_never_measured(self, rows):
        with pytest.raises(ValueError, match=r"model\.objectives: no weight sets itself, so the row 'weighed'"):
            rows(GradientShare, 'set', 8, ['weighed'], weight=0.5)


@pytest.mark.parametrize('name', ['beside', 'graphs'])
def test_rows_of_a_gpu_are_refused_without_one(name, segmentor):
    with pytest.raises(ValueError, match=f"^--rows: the row '{name}' is one of a GPU: add --device cuda"):
        measure_rows(segmentor.distilled(), (2, 64, 64), 'cpu', ['online', name])


@pytest.mark.parametrize(
    ('changes', 'options', 'message'),
    [
        (dict(teacher=None), [], r'model\.teacher: none is there'),
        (dict(objectives={}), [], r'model\.objectives: none is there'),
        (
            dict(teacher=dict(a=dict(config='a.py'), b=dict(config='b.py'))),
            [],
            r'model\.teacher: .* not several \(a, b\)',
        ),
        (dict(teacher=dict(type='kddense.AverageTeacher')), [], r'model\.teacher\.type: only .* not a AverageTeacher'),
        (
            dict(teacher=dict(type='kddense.CachedTeacher', folder='f', teacher=dict(type='kddense.EnsembleTeacher'))),
            [],
            r'model\.teacher\.type: only .* not a EnsembleTeacher',
        ),
        ({}, ['--device', 'gpu'], r"--device: PyTorch has no device 'gpu' here \("),
    ],
)
@pytest.mark.parametrize('rows', [[], ['--rows', 'online']], ids=['parts', 'rows'])
def test_what_cannot_be_timed(changes, options, message, rows, segmentor, tmp_path):
    config = segmentor.distilled()
    for key, value in changes.items():
        config.model.pop(key)  # dicts would be merged
        config.model[key] = value
    config.dump(tmp_path / 'config.py')
    with pytest.raises(SystemExit, match=f'^error: {message}'):
        main(['--config', str(tmp_path / 'config.py'), *rows, *options])


def test_reading_and_steps_are_not_timed_together(capsys):
    with pytest.raises(SystemExit):
        main(['--config', 'config.py', '--views', '1', '--rows', 'online'])
    assert '--views times the reading of images, --rows steps: give one of the two' in capsys.readouterr().err


def test_rows_are_asked_for_on_the_command_line(segmentor, tmp_path, capsys):
    segmentor.distilled().dump(tmp_path / 'config.py')
    options = [
        '--shape',
        '2',
        '64',
        '64',
        '--rounds',
        '1',
        '--rows',
        'online',
        'cached',
        '--json',
        str(tmp_path / 'f.json'),
    ]
    main(['--config', str(tmp_path / 'config.py'), *options])
    written = json.loads((tmp_path / 'f.json').read_text())
    assert written['rows'].keys() == {'plain', 'online', 'cached', 'teacher'}
    assert 'answers read' in capsys.readouterr().out


class TestOnnxFiles:
    @pytest.fixture
    def files(self, tmp_path):
        """A small one, and one that does the same many times over."""
        helper = pytest.importorskip('onnx').helper
        pytest.importorskip('onnxruntime')
        files = []
        for name, layers in (('slow', 40), ('fast', 1)):
            maps = ['images', *(f'map_{index}' for index in range(layers))]
            nodes = [helper.make_node('Sin', [one], [other]) for one, other in itertools.pairwise(maps)]
            first, last = (helper.make_tensor_value_info(one, 1, ['n', 3, 'h', 64]) for one in (maps[0], maps[-1]))
            graph = helper.make_graph(nodes, 'graph', [first], [last])
            files.append(tmp_path / f'{name}.onnx')
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
            files[-1].write_bytes(model.SerializeToString())
        return files

    def test_ratio_to_the_first(self, files, tmp_path, capsys):
        options = ['--shape', '2', '64', '64', '--rounds', '5', '--threads', '1', '--clock', 'cpu']
        main(['--onnx', *map(str, files), *options, '--json', str(tmp_path / 'figures.json')])
        figures = json.loads((tmp_path / 'figures.json').read_text())
        slow, fast = figures['files']
        assert figures['shape'] == [2, 64, 64]
        assert slow['ratio'] == 1
        assert fast['ratio'] < 0.5
        assert fast['quartiles'][0] <= fast['ratio'] <= fast['quartiles'][1]
        assert fast['bytes'] == files[1].stat().st_size
        assert f'ratio {fast["ratio"]:.3f}' in capsys.readouterr().out

    @pytest.mark.parametrize(
        'name, shape, message',
        [
            ('none.onnx', (1, 64, 64), 'there is no file none.onnx'),
            ('slow.onnx', (1, 64, 32), r'\S+slow.onnx takes no images of --shape 1 64 32'),
            ('empty.onnx', (1, 64, 64), r'\S+empty.onnx is no file of kddense export --onnx that onnxruntime reads'),
        ],
    )
    def test_files_that_cannot_be_timed(self, files, tmp_path, name, shape, message):
        (tmp_path / 'empty.onnx').write_bytes(b'')
        file = name if name == 'none.onnx' else str(tmp_path / name)
        with pytest.raises(SystemExit, match=f'^error: --onnx: {message}$'):
            main(['--onnx', file, '--shape', *map(str, shape)])


def test_reading_images_is_timed_by_views(segmentor, tmp_path, capsys):
    segmentor.plain().dump(tmp_path / 'config.py')
    options = ['--views', '1', '2', '4', '--rounds', '2', '--json', str(tmp_path / 'views.json')]
    main(['--config', str(tmp_path / 'config.py'), *options])
    found = json.loads((tmp_path / 'views.json').read_text())
    assert set(found['rows']) == set(found['ratio']) == {'1', '2', '4'}
    assert found['ratio']['1'] == 1.0
    assert all(one > 0 for one in found['rows'].values())
    assert 'ms/image' in capsys.readouterr().out
