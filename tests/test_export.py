"""What is exported is the student alone: stock libraries load it where kddense cannot be imported, and see the same."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import DefaultScope
from mmseg.models.utils import Upsample
from torch import nn

import kddense
from kddense import export
from kddense.compat import load_checkpoint
from kddense.export import config_from_text, export_student, plain_config
from kddense.visualization import read_run

ROOT = Path(__file__).parents[1]

# A process of stock OpenMMLab: the folder of the stand-in plays the compiled mmcv, and there is no kddense.
STOCK = """
import importlib
import sys

import torch


class NoKddense:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'kddense':
            raise ImportError('there is no kddense here')


torch.set_num_threads(1)
sys.meta_path.insert(0, NoKddense())
sys.modules['mmcv._ext'] = importlib.import_module('mmcv_operators.ops')

from mmengine.config import Config
from mmengine.runner import Runner


def look(package, exported, measured, image):
    if package == 'mmdet':
        from mmdet.apis import inference_detector as infer, init_detector as init
    else:
        from mmseg.apis import inference_model as infer, init_model as init
    model = init(exported.replace('.pth', '.py'), exported, device='cpu')
    model.load_state_dict(torch.load(exported, weights_only=True)['state_dict'], strict=True)
    model.cfg.setdefault('test_pipeline', model.cfg.test_dataloader.dataset.pipeline)  # where mmseg looks for it
    sample = infer(model, image)
    found = sample.pred_instances if package == 'mmdet' else sample.seg_logits

    config = Config.fromfile(measured.replace('.pth', '.py'))
    config.update(work_dir=package, experiment_name=package, load_from=measured, log_level='ERROR')
    found = {key: torch.as_tensor(value) for key, value in found.items()}
    return dict(found=found, metrics=Runner.from_cfg(config).test(), meta=model.dataset_meta)


image, *jobs = sys.argv[1:]
found = {package: look(package, *files, image) for package, *files in (job.split(':') for job in jobs)}
assert 'kddense' not in sys.modules
torch.save(found, 'found.pth')
"""


@dataclass(frozen=True)
class TrainedRun:
    """A short training.

    Attributes:
        task: The toy task.
        folder: Its work_dir.
        runner: The runner at the end of it.
        checkpoint: Its last checkpoint.
    """

    task: Any
    folder: Path
    runner: Any
    checkpoint: Path

    @property
    def student(self):
        return self.runner.model.student.eval()

    def predict(self, image: Path):
        """Return what the distilled student says of an image, by mmdet's or mmseg's own inference."""
        if self.task.package == 'mmdet':
            from mmdet.apis import inference_detector as infer
        else:
            from mmseg.apis import inference_model as infer
        model = self.student
        model.cfg = self.task.plain()
        model.cfg.setdefault('test_pipeline', model.cfg.test_dataloader.dataset.pipeline)
        with DefaultScope.overwrite_default_scope(self.task.package):
            sample = infer(model, str(image))
        return sample.pred_instances if self.task.package == 'mmdet' else sample


def train(task, folder: Path, *hooks: dict, **options: Any) -> TrainedRun:
    config = task.distilled(**options)
    config.custom_hooks = [*hooks, dict(type='kddense.RandomStateHook')]
    config.dump(folder / 'distilled.py')
    runner = task.train(Config.fromfile(folder / 'distilled.py'), folder / 'run')
    return TrainedRun(task, folder / 'run', runner, read_run(folder / 'run', 'run').checkpoint)


@pytest.fixture(scope='module')
def detector_run(detector, tmp_path_factory) -> TrainedRun:
    """Three epochs of Faster R-CNN with an average of its weights."""
    return train(detector, tmp_path_factory.mktemp('detector_run'), dict(type='EMAHook', momentum=0.1))


@pytest.fixture(scope='module')
def segmentor_run(structured, tmp_path_factory) -> TrainedRun:
    """Twelve iterations of PSPNet, with a discriminator that has an optimiser of its own."""
    return train(structured, tmp_path_factory.mktemp('segmentor_run'))


@pytest.fixture(scope='module')
def depth_run(depth, tmp_path_factory) -> TrainedRun:
    """Four iterations of a depth estimator, whose head is kddense's."""
    return train(depth, tmp_path_factory.mktemp('depth_run'), train_cfg__max_iters=4)


@pytest.fixture(scope='module')
def stock(detector_run, segmentor_run, tmp_path_factory, toy_data):
    """What a process without kddense finds, by package: of a detector, whose average is measured, and a segmentor."""
    root = tmp_path_factory.mktemp('stock')
    shutil.copytree(Path(kddense.__file__).parent / 'compat', root / 'mmcv_operators')
    (root / 'stock.py').write_text(STOCK)
    export_student(detector_run.folder, root / 'detector.pth')
    export_student(detector_run.folder, root / 'average.pth', ema=True)
    export_student(segmentor_run.folder, root / 'segmentor.pth')

    jobs = ['mmdet:detector.pth:average.pth', 'mmseg:segmentor.pth:segmentor.pth']
    command = [sys.executable, 'stock.py', str(toy_data / 'images' / '0.png'), *jobs]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(root / 'found.pth', weights_only=False)


def weights(path: Path) -> dict:
    return load_checkpoint(path)['state_dict']


@functools.cache
def _read(task) -> tuple[Config, Config]:
    return task.plain(), task.distilled()


def plain(task, **options: Any) -> Config:
    """Return the config of the plain student; read once, for that takes a second."""
    config = copy.deepcopy(_read(task)[0])
    config.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return config


def distilled(task) -> Config:
    return copy.deepcopy(_read(task)[1])


def plain_settings(task) -> dict:
    return plain_config(plain(task)).settings


def run_settings(task) -> dict:
    return dict(plain_settings(task), log_level='ERROR')  # as ToyTask runs it


def assert_same_weights(found, expected):
    assert list(found) == list(expected)
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class TestWithoutKddense:
    def test_a_detectors_boxes_are_the_distilled_students(self, detector_run, stock, toy_data):
        own = detector_run.predict(toy_data / 'images' / '0.png')
        assert len(own) > 0
        assert all(torch.equal(stock['mmdet']['found'][key], own[key]) for key in ('bboxes', 'scores', 'labels'))

    def test_a_detectors_average_has_the_metrics_of_the_validation(self, detector_run, stock):
        own = read_run(detector_run.folder, 'run').metrics()
        assert own['coco/bbox_mAP_50'] > 0
        assert stock['mmdet']['metrics'] == {key: own[key] for key in stock['mmdet']['metrics']}

    def test_a_segmentors_logits_are_the_distilled_students(self, segmentor_run, stock, toy_data):
        own = segmentor_run.predict(toy_data / 'images' / '0.png').seg_logits.data
        assert torch.equal(stock['mmseg']['found']['data'], own)

    def test_a_segmentor_has_the_metrics_of_the_validation(self, segmentor_run, stock):
        own = read_run(segmentor_run.folder, 'run').metrics()
        assert own['mIoU'] > 0
        assert stock['mmseg']['metrics'] == {key: own[key] for key in stock['mmseg']['metrics']}

    def test_classes_and_palette_are_kept(self, stock):
        assert stock['mmdet']['meta']['classes'] == ('disc', 'square', 'cross')
        assert stock['mmseg']['meta']['classes'] == ('ground', 'disc', 'square', 'cross')
        assert stock['mmseg']['meta']['palette'] == [[0] * 3, [80] * 3, [160] * 3, [240] * 3]


class TestCheckpoint:
    @pytest.fixture(scope='class')
    def exported(self, segmentor_run, tmp_path_factory):
        out = tmp_path_factory.mktemp('exported') / 'student.pth'
        export_student(segmentor_run.folder, out)
        return load_checkpoint(out)

    def test_it_holds_nothing_but_weights_and_meta(self, exported, segmentor_run):
        run = load_checkpoint(segmentor_run.checkpoint)
        assert {'optimizer', 'message_hub', 'param_schedulers', 'random_state'} <= run.keys()
        assert exported.keys() == {'meta', 'state_dict'}
        assert exported['meta'].keys() == {'epoch', 'iter', 'mmengine_version', 'dataset_meta', 'cfg'}
        for key in exported['meta'].keys() - {'cfg'}:
            assert exported['meta'][key] == run['meta'][key]
        assert exported['meta']['iter'] == 12

    def test_weights_and_versions_are_the_plain_students(self, exported, segmentor_run):
        expected = segmentor_run.task.build(plain(segmentor_run.task).model).state_dict()
        assert 'kddense' in weights(segmentor_run.checkpoint)._metadata['']
        assert exported['state_dict']._metadata == expected._metadata
        assert list(exported['state_dict']) == list(expected)
        assert_same_weights(exported['state_dict'], weights(segmentor_run.checkpoint))

    def test_its_config_is_the_one_beside_it(self, exported, segmentor_run):
        assert config_from_text(exported['meta']['cfg']).to_dict() == run_settings(segmentor_run.task)

    def test_an_export_can_be_exported(self, segmentor_run, tmp_path):
        export_student(segmentor_run.folder, tmp_path / 'once.pth')
        (tmp_path / 'once.py').unlink()
        assert export_student(tmp_path / 'once.pth', tmp_path / 'twice.pth').notes == ()
        assert_same_weights(weights(tmp_path / 'twice.pth'), weights(tmp_path / 'once.pth'))

    def test_numpy_values_become_plain_ones(self, structured, tmp_path):
        state = structured.build(plain(structured).model).state_dict()
        meta = dict(
            cfg=plain(structured).pretty_text, dataset_meta=dict(palette=np.eye(3), classes=('a', np.str_('b')))
        )
        torch.save(dict(state_dict=state, meta=meta), tmp_path / 'plain.pth')
        export_student(tmp_path / 'plain.pth', tmp_path / 'student.pth', trust_checkpoint=True)
        found = load_checkpoint(tmp_path / 'student.pth')['meta']['dataset_meta']
        assert found == dict(palette=np.eye(3).tolist(), classes=('a', 'b'))
        assert type(found['classes'][1]) is str


class TestAverage:
    """By EMAHook the average is saved as ``state_dict``; the hub of the runner still has the trained weights."""

    def test_trained_weights_by_default(self, detector_run, tmp_path):
        exported = export_student(detector_run.folder, tmp_path / 'student.pth')
        assert_same_weights(weights(tmp_path / 'student.pth'), detector_run.student.state_dict())
        assert any('average' in note and '--ema' in note for note in exported.notes)

    def test_the_average_on_request(self, detector_run, tmp_path):
        exported = export_student(detector_run.folder, tmp_path / 'student.pth', ema=True)
        (hook,) = (hook for hook in detector_run.runner.hooks if type(hook).__name__ == 'EMAHook')
        average = hook.ema_model.module.state_dict()
        assert_same_weights(weights(tmp_path / 'student.pth'), average)
        assert not torch.equal(
            average['neck.lateral_convs.0.conv.weight'], detector_run.student.neck.lateral_convs[0].conv.weight
        )
        assert not any('--ema' in note for note in exported.notes)

    def test_a_run_without_one(self, segmentor_run, tmp_path):
        with pytest.raises(ValueError, match='iter_12.pth keeps no averaged weights, its run had no EMAHook'):
            export_student(segmentor_run.folder, tmp_path / 'student.pth', ema=True)
        assert not list(tmp_path.iterdir())


class TestPlainConfig:
    def test_it_is_the_students_own(self, task):
        config = distilled(task)
        config.update(resume=True, load_from='distilled.pth', work_dir='run')
        config.custom_hooks = [dict(type='EMAHook'), dict(type='kddense.RandomStateHook')]
        expected = dict(plain(task).to_dict(), custom_hooks=[dict(type='EMAHook')])
        del expected['resume'], expected['load_from']
        assert plain_config(config).settings == expected

    @pytest.mark.parametrize('name', ['detector', 'one_stage', 'segmentor', 'structured'])
    def test_a_stock_student_needs_nothing_of_kddense(self, name, request):
        found = plain_config(distilled(request.getfixturevalue(name)))
        assert found.needs == ()
        assert 'kddense' not in Config(found.settings).pretty_text

    def test_a_students_head_of_kddense_is_told(self, depth):
        found = plain_config(distilled(depth))
        assert found.needs[0] == 'kddense.DepthHead in model.decode_head'
        assert found.settings['custom_imports']['imports'] == ['kddense']
        assert found.settings['test_evaluator']['type'] == 'kddense.DepthMetric'  # it is there, and measures the same

    def test_schedules_and_constructor_are_given_back(self, structured):
        config = distilled(structured)
        schedule = [dict(type='PolyLR', power=0.9, by_epoch=False)]
        config.param_scheduler = dict(student=schedule, holistic=[dict(type='ConstantLR')])
        config.optim_wrapper.student_constructor = 'LearningRateDecayOptimizerConstructor'
        found = plain_config(config)
        own = plain(structured).optim_wrapper.to_dict()
        assert found.settings['optim_wrapper'] == dict(own, constructor='LearningRateDecayOptimizerConstructor')
        assert found.settings['param_scheduler'] == schedule

    @pytest.mark.parametrize(
        'teaching, student',
        [
            ('skd/skd_r101_r18_pspnet_512x512_cityscapes', 'skd/pspnet_r18_512x512_cityscapes'),
            ('skd/skd_r50_r18_depth_nyu', 'skd/depth_r18_nyu'),
            ('skd/skd-unlabelled_r18-w32_r18-w8_pspnet_camvid', 'skd/pspnet_r18-w8_camvid'),
        ],
    )
    def test_the_projects_configs_become_their_students(self, teaching, student):
        configs = (Config.fromfile(ROOT / 'configs' / f'{name}.py') for name in (teaching, student))
        found, expected = (plain_config(config).settings for config in configs)
        assert found == expected

    def test_a_shrunken_image_is_resized(self):
        config = Config.fromfile(ROOT / 'configs/chen2017/chen_r50_r50-low-res_fpn_1x_coco.py')
        pipeline = plain_config(config).settings['train_dataloader']['dataset']['pipeline']
        assert [step['type'] for step in pipeline[2:]] == ['Resize', 'RandomFlip', 'Resize', 'PackDetInputs']
        assert pipeline[4] == dict(type='Resize', keep_ratio=True, scale_factor=0.5)
        assert 'teacher_img' not in pipeline[5]['meta_keys']

    def test_a_shrunken_image_to_test_on_is_left(self, detector):
        config = distilled(detector)
        config.test_dataloader.dataset.pipeline.insert(2, dict(type='kddense.ShrinkForStudent', factor=2))
        assert plain_config(config).needs == ('kddense.ShrinkForStudent in test_dataloader.dataset.pipeline',)

    @pytest.mark.parametrize(
        'crop, expected', [('nyu_crop', [dict(type='mmseg.DepthMetric', crop_type='nyu_crop')]), ('garg_crop', [])]
    )
    def test_the_metric_of_a_stock_depth_estimator(self, depth, crop, expected):
        config = distilled(depth)
        config.model.student.decode_head = dict(type='VPDDepthHead')
        config.test_evaluator = dict(type='kddense.DepthMetric', crop_type=crop, depth_metrics=['rmse'])
        found = plain_config(config)
        assert found.settings['test_evaluator'] == expected
        assert any(dropped.startswith('kddense.DepthMetric') for dropped in found.dropped)
        assert found.needs == ()

    def test_hooks_are_told(self, detector):
        config = distilled(detector)
        config.custom_hooks = [dict(type='kddense.RandomStateHook'), dict(type='EMAHook')]
        config.default_hooks.random = dict(type='kddense.RandomStateHook')
        found = plain_config(config)
        assert found.settings['custom_hooks'] == [dict(type='EMAHook')]
        assert found.settings['default_hooks'] == plain(detector).default_hooks.to_dict()
        assert found.dropped == ('kddense.RandomStateHook',)

    def test_variables_for_distilling_are_gone(self, detector):
        config = distilled(detector)
        config.teacher, config.teacher_file = config.model.teacher, config.model.teacher.checkpoint
        config.student = config.model.student
        config.recipe, config.classes = dict(hint=dict(type='kddense.HintObjective')), ('disc', 'square', 'cross')
        found = plain_config(config).settings
        assert found == dict(plain_settings(detector), classes=('disc', 'square', 'cross'))

    def test_no_model(self):
        with pytest.raises(ValueError, match='the config holds no model'):
            plain_config(Config(dict(train_cfg=dict())))


class TestCustomImports:
    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        """Write and import a module, as ``Config.fromfile`` does with those of ``custom_imports``."""
        monkeypatch.syspath_prepend(tmp_path)
        written = []

        def write(name: str, text: str) -> str:
            (tmp_path / f'{name}.py').write_text(textwrap.dedent(text))
            importlib.import_module(name)
            written.append(name)
            return name

        yield write
        for name in written:
            del sys.modules[name]

    def test_what_builds_on_kddense_goes_the_rest_stays(self, detector, module):
        losses = module('toy_losses', 'from kddense.registry import MODELS\nclass ToyLoss: pass')
        blocks = module('toy_blocks', '# not kddense\nclass ToyBlock: pass')
        config = distilled(detector)
        config.custom_imports.imports += [losses, blocks]
        found = plain_config(config)
        assert found.settings['custom_imports']['imports'] == [blocks]
        assert found.dropped == ('toy_losses (custom_imports)',)
        assert found.needs == ()

    def test_what_the_student_is_made_of_stays(self, detector, module):
        mixed = module('toy_mixed', 'import kddense\nclass ToyResNet: pass')
        config = distilled(detector)
        config.custom_imports.imports.append(mixed)
        config.model.student.backbone.type = 'ToyResNet'
        found = plain_config(config)
        assert found.settings['custom_imports']['imports'] == ['kddense', mixed]
        assert found.needs == ('toy_mixed in custom_imports',)


class TestConfigText:
    def test_it_reads_what_mmengine_writes(self, task):
        config = plain(task)
        assert config_from_text(config.pretty_text).to_dict() == config.to_dict()

    @pytest.mark.parametrize('text', ['a = open("x")', 'import os', 'a = dict(**b)', 'a = dict([1])', 'a.b = 1', 'a ='])
    def test_it_runs_nothing(self, text):
        with pytest.raises(ValueError, match='it is not plain data'):
            config_from_text(text)


class TestWhereTheConfigIsFound:
    def test_a_checkpoint_alone_carries_its_own(self, segmentor_run, tmp_path):
        shutil.copy(segmentor_run.checkpoint, tmp_path / 'moved.pth')
        (tmp_path / 'moved.py').write_text('raise RuntimeError("of something else")')
        exported = export_student(tmp_path / 'moved.pth', tmp_path / 'student.pth')
        assert Config.fromfile(tmp_path / 'student.py').to_dict() == run_settings(segmentor_run.task)
        assert exported.source == tmp_path / 'moved.pth'

    def test_bare_weights_have_it_beside_them(self, detector, tmp_path):
        torch.save(detector.build(plain(detector).model).state_dict(), tmp_path / 'bare.pth')
        with pytest.raises(ValueError, match='holds no config, and none lies beside it: pass --config'):
            export_student(tmp_path / 'bare.pth', tmp_path / 'student.pth')
        plain(detector).dump(tmp_path / 'bare.py')
        export_student(tmp_path / 'bare.pth', tmp_path / 'student.pth')
        assert_same_weights(weights(tmp_path / 'student.pth'), torch.load(tmp_path / 'bare.pth'))

    def test_a_config_on_request(self, segmentor_run, tmp_path):
        plain(segmentor_run.task, train_cfg__max_iters=99).dump(tmp_path / 'own.py')
        export_student(segmentor_run.folder, tmp_path / 'student.pth', config=tmp_path / 'own.py')
        assert Config.fromfile(tmp_path / 'student.py').train_cfg.max_iters == 99

    def test_a_work_dirs_config_that_is_gone(self, segmentor_run, tmp_path):
        (tmp_path / 'run').mkdir()
        shutil.copy(segmentor_run.checkpoint, tmp_path / 'run')
        export_student(tmp_path / 'run', tmp_path / 'student.pth')
        assert Config.fromfile(tmp_path / 'student.py').to_dict() == run_settings(segmentor_run.task)

    def test_code_in_a_checkpoints_config_is_not_run(self, detector, tmp_path):
        state = detector.build(plain(detector).model).state_dict()
        text = f'model = dict(type="X")\nran = open({str(tmp_path / "ran")!r}, "w")'
        torch.save(dict(state_dict=state, meta=dict(cfg=text)), tmp_path / 'evil.pth')
        with pytest.raises(ValueError, match='the config in .*evil.pth cannot be read .*: pass --config'):
            export_student(tmp_path / 'evil.pth', tmp_path / 'student.pth')
        assert not (tmp_path / 'ran').exists()


class TestNothingIsLost:
    def test_an_earlier_export(self, segmentor_run, tmp_path):
        for taken in ('student.pth', 'student.py', 'student.onnx'):
            (tmp_path / taken).write_text('mine')
            with pytest.raises(FileExistsError, match=f'{taken} exists, and nothing was written.*--force'):
                export_student(segmentor_run.folder, tmp_path / 'student.pth', onnx=True)
            assert files_in(tmp_path) == {taken: b'mine'}
            (tmp_path / taken).unlink()

    def test_force(self, segmentor_run, tmp_path):
        for name in ('student.pth', 'student.py', 'student.onnx'):
            (tmp_path / name).write_text('mine')
        exported = export_student(segmentor_run.folder, tmp_path / 'student.pth', force=True)
        assert_same_weights(weights(tmp_path / 'student.pth'), weights(segmentor_run.checkpoint))
        assert (tmp_path / 'student.onnx').read_text() == 'mine'
        assert f'{tmp_path / "student.onnx"} is of an earlier export: --onnx writes it anew' in exported.notes

    def test_what_is_exported(self, segmentor_run, tmp_path):
        shutil.copy(segmentor_run.checkpoint, tmp_path / 'moved.pth')
        plain(segmentor_run.task).dump(tmp_path / 'own.py')
        before = files_in(tmp_path)
        for out in ('moved.pth', 'own.pth'):
            with pytest.raises(FileExistsError, match='is what is to be exported, and is never overwritten'):
                export_student(tmp_path / 'moved.pth', tmp_path / out, config=tmp_path / 'own.py', force=True)
        assert files_in(tmp_path) == before

    def test_the_config_of_a_run(self, segmentor_run):
        """A work_dir's newest config is the run's."""
        before = files_in_tree(segmentor_run.folder)
        with pytest.raises(
            ValueError, match='run is the work_dir of a run, whose config student.py would be taken for'
        ):
            export_student(segmentor_run.folder, segmentor_run.folder / 'student.pth')
        assert files_in_tree(segmentor_run.folder) == before

    def test_a_failure_half_way_leaves_nothing(self, segmentor_run, tmp_path, monkeypatch):
        (tmp_path / 'student.pth').write_text('mine')

        def fail(*_: Any) -> None:
            raise RuntimeError('the disk is full')

        monkeypatch.setattr(export, '_check_config_text', fail)
        with pytest.raises(RuntimeError, match='the disk is full'):
            export_student(segmentor_run.folder, tmp_path / 'student.pth', force=True)
        assert files_in(tmp_path) == {'student.pth': b'mine'}


def files_in_tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


class TestBadInput:
    @pytest.fixture(autouse=True)
    def nothing_is_written(self, tmp_path):
        yield
        assert not list((tmp_path / 'out').glob('*'))

    @pytest.fixture
    def out(self, tmp_path):
        (tmp_path / 'out').mkdir()
        return tmp_path / 'out' / 'student.pth'

    def test_no_such_work_dir(self, out, tmp_path):
        with pytest.raises(FileNotFoundError, match='there is no work_dir and no checkpoint .*nowhere$'):
            export_student(tmp_path / 'nowhere', out)

    def test_a_work_dir_without_a_checkpoint(self, out, tmp_path):
        with pytest.raises(FileNotFoundError, match='holds no checkpoint .*: is it the work_dir of a run'):
            export_student(tmp_path, out)

    def test_no_such_config(self, segmentor_run, out):
        with pytest.raises(FileNotFoundError, match='there is no config nowhere.py'):
            export_student(segmentor_run.folder, out, config='nowhere.py')

    def test_a_config_that_fails(self, segmentor_run, out, tmp_path):
        (tmp_path / 'broken.py').write_text('a = 1 / 0')
        with pytest.raises(ValueError, match='the config .*broken.py cannot be read: division by zero'):
            export_student(segmentor_run.folder, out, config=tmp_path / 'broken.py')

    def test_a_checkpoint_of_something_else(self, segmentor_run, out, tmp_path):
        plain(segmentor_run.task, model__decode_head__channels=8).dump(tmp_path / 'other.py')
        with pytest.raises(ValueError, match='other.py: [1-9][0-9]* of another shape, such as decode_head') as error:
            export_student(segmentor_run.folder, out, config=tmp_path / 'other.py')
        assert str(error.value).startswith(f'{segmentor_run.checkpoint} does not fit the config')

    def test_a_checkpoint_of_another_family(self, segmentor_run, detector, out, tmp_path):
        plain(detector).dump(tmp_path / 'other.py')
        with pytest.raises(ValueError, match=r'\d+ missing, such as .*; \d+ unexpected, such as backbone'):
            export_student(segmentor_run.folder, out, config=tmp_path / 'other.py')

    def test_a_student_that_cannot_be_built(self, segmentor_run, out, tmp_path):
        plain(segmentor_run.task, model__backbone__type='NoNet').dump(tmp_path / 'other.py')
        with pytest.raises(ValueError, match='the student of .*other.py cannot be built: .*NoNet is not in the'):
            export_student(segmentor_run.folder, out, config=tmp_path / 'other.py')

    def test_pickled_code(self, out, tmp_path):
        torch.save(dict(state_dict=dict(), meta=print), tmp_path / 'evil.pth')
        with pytest.raises(
            ValueError, match='holds pickled code .*print.* pass trust_checkpoint=True only if you trust'
        ):
            export_student(tmp_path / 'evil.pth', out)

    def test_another_suffix(self, segmentor_run, out):
        with pytest.raises(ValueError, match='the checkpoint to write must end in .pth, got .*student.onnx'):
            export_student(segmentor_run.folder, out.with_suffix('.onnx'))

    def test_a_target_that_cannot_be_written(self, segmentor_run, out, tmp_path):
        (tmp_path / 'file').touch()
        with pytest.raises(OSError, match='cannot be written: .*file is no folder that you may write to'):
            export_student(segmentor_run.folder, tmp_path / 'file' / 'student.pth')

    def test_packages_for_onnx(self, segmentor_run, out, monkeypatch):
        monkeypatch.setattr(export, 'ONNX_PACKAGES', ('torch', 'no_such_onnx'))
        with pytest.raises(
            ImportError, match=r"ONNX needs no_such_onnx, not installed here: pip install 'kddense\[onnx\]'"
        ):
            export_student(segmentor_run.folder, out, onnx=True)

    def test_a_value_that_no_text_can_hold(self, segmentor_run, out, tmp_path):
        plain(segmentor_run.task).dump(tmp_path / 'infinite.py')
        with (tmp_path / 'infinite.py').open('a') as file:
            file.write("\nfar = float('inf')\n")
        with pytest.raises(ValueError, match="the config cannot be written as text: name 'inf' is not defined"):
            export_student(segmentor_run.folder, out, config=tmp_path / 'infinite.py')


def run_onnx(file: Path, images: torch.Tensor) -> dict[str, torch.Tensor]:
    onnxruntime = pytest.importorskip('onnxruntime')
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, {'images': images.numpy()})), strict=True))


class TestOnnx:
    @pytest.fixture
    def images(self):
        """Five images, of another size than any that the export has tried."""
        return torch.randn(5, 3, 128, 192, generator=torch.Generator().manual_seed(1))

    @pytest.fixture
    def exported(self, tmp_path):
        pytest.importorskip('onnxruntime')

        def run(trained: TrainedRun, **options: Any):
            exported = export_student(trained.folder, tmp_path / 'student.pth', onnx=True, **options)
            assert exported.onnx.dynamic == ('batch', 'height', 'width')
            assert exported.onnx.difference < 1e-5
            assert [file.name for file in exported.files] == ['student.pth', 'student.py', 'student.onnx']
            assert set(files_in(tmp_path)) == {'student.pth', 'student.py', 'student.onnx'}
            return exported

        return run

    @torch.no_grad()
    def test_a_segmentors_logits(self, segmentor_run, exported, images):
        found = run_onnx(exported(segmentor_run).files[2], images)
        expected = torch.stack([sample.seg_logits.data for sample in segmentor_run.student.predict(images)])
        assert found.keys() == {'logits'}
        torch.testing.assert_close(found['logits'], expected, rtol=1e-4, atol=1e-4)

    @torch.no_grad()
    def test_a_depth_estimators_metres(self, depth_run, exported, images):
        report = exported(depth_run)
        found = run_onnx(report.files[2], images)
        expected = torch.stack([sample.pred_depth_map.data for sample in depth_run.student.predict(images)])
        assert found.keys() == {'depth'}
        torch.testing.assert_close(found['depth'], expected, rtol=1e-4, atol=1e-4)
        assert 0.1 <= found['depth'].min() < found['depth'].max() <= 10
        (note,) = (note for note in report.notes if 'needs kddense' in note)
        assert 'kddense.DepthHead in model.decode_head' in note
        assert note.endswith('--onnx gives a file that does not')

    @torch.no_grad()
    def test_a_detectors_average_pyramid(self, detector_run, exported, images):
        found = run_onnx(exported(detector_run, ema=True).files[2], images)
        (hook,) = (hook for hook in detector_run.runner.hooks if type(hook).__name__ == 'EMAHook')
        expected = hook.ema_model.module.student.eval().extract_feat(images)
        assert list(found) == [f'level_{index}' for index in range(5)]
        for level, own in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(level, own, rtol=1e-4, atol=1e-4)

    def test_it_says_what_its_input_is(self, segmentor_run, exported):
        import onnx

        model = onnx.load(exported(segmentor_run).files[2])
        facts = {item.key: json.loads(item.value) for item in model.metadata_props}
        assert facts['classes'] == ['ground', 'disc', 'square', 'cross']
        assert facts['bgr_to_rgb'] is True
        assert facts['mean'] == pytest.approx([123.675, 116.28, 103.53])
        assert facts['std'] == pytest.approx([58.395, 57.12, 57.375])

    def test_the_exported_depth_estimator_works_with_kddense(self, depth_run, tmp_path, toy_data):
        from mmseg.apis import inference_model, init_model

        export_student(depth_run.folder, tmp_path / 'student.pth')
        model = init_model(str(tmp_path / 'student.py'), str(tmp_path / 'student.pth'), device='cpu')
        image = toy_data / 'images' / '0.png'
        found = inference_model(model, str(image)).pred_depth_map.data
        assert torch.equal(found, depth_run.predict(image).pred_depth_map.data)


class Toy(nn.Module):
    """A backbone, and what a test makes of its map."""

    def __init__(self, function) -> None:
        super().__init__()
        self.data_preprocessor = ImgDataPreprocessor()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function

    def extract_feat(self, images):
        return [self.function(self.backbone(images))]


class TestWhatOnnxCannotHold:
    @pytest.fixture
    def write(self, tmp_path):
        pytest.importorskip('onnxruntime')
        return lambda function: export._write_onnx(Toy(function).eval(), tmp_path / 'toy.onnx', (32, 48), {})

    @pytest.mark.parametrize(
        'function, dynamic',
        [
            (lambda maps: maps * 2, ('batch', 'height', 'width')),
            (lambda maps: maps * int(maps.shape[2]), ('batch',)),  # a number to the exporter, that of the example
            (lambda maps: maps * int(maps.shape[0]), ()),
            (nn.AdaptiveAvgPool2d(5), ('batch', 'height', 'width')),
            (nn.AdaptiveAvgPool2d((7, 3)), ('batch', 'height', 'width')),
            (Upsample(scale_factor=2, mode='bilinear', align_corners=False), ('batch', 'height', 'width')),
        ],
    )
    def test_what_varies_is_what_was_seen_to_work(self, write, function, dynamic):
        report = write(function)
        assert report.dynamic == dynamic
        assert bool(report.limit) == (len(dynamic) < 3)
        assert report.difference < 1e-5

    def test_an_operator_that_torch_cannot_export(self, write, capfd):
        with pytest.raises(RuntimeError, match=r'^Toy cannot be exported to ONNX: .*aten::linalg_svd[^\n]*$'):
            write(torch.linalg.svdvals)
        assert capfd.readouterr().out == ''

    def test_values_that_differ(self, write, monkeypatch):
        exportable = export._exportable

        def wrong(student):
            student = exportable(student)
            student.backbone.weight.data.mul_(1.01)
            return student

        monkeypatch.setattr(export, '_exportable', wrong)
        with pytest.raises(
            RuntimeError, match='Toy cannot be exported to ONNX: its values differ .* by [0-9.]+e-0[23]'
        ):
            write(nn.Identity())

    def test_values_that_are_not_numbers(self, write):
        with pytest.raises(RuntimeError, match='its values differ from those of PyTorch by nan'):
            write(lambda maps: maps / 0 * 0)

    def test_a_model_of_another_kind(self, tmp_path):
        with pytest.raises(RuntimeError, match='Linear is neither a segmentor, a depth estimator nor a detector'):
            export._write_onnx(nn.Linear(1, 1), tmp_path / 'toy.onnx', (32, 48), {})


class TestExampleSize:
    def size(self, shape=None, loader=None, **settings: Any):
        preprocessor = settings.pop('data_preprocessor', {})
        model = dict(data_preprocessor=preprocessor)
        return export._example_size(dict(settings, model=model, test_dataloader=loader), shape)

    def test_what_is_asked_for(self):
        assert self.size((30, 50), data_preprocessor=dict(size=(512, 1024))) == (30, 50)

    def test_the_crop(self):
        assert self.size(data_preprocessor=dict(size=(512, 1024)), crop_size=(64, 64)) == (512, 1024)
        assert self.size(data_preprocessor=dict(size_divisor=32), crop_size=(500, 64)) == (512, 64)

    def test_what_images_are_resized_to(self):
        """Width comes first there; and it is padded, as the images are."""
        resize = dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True)
        dataset = dict(type='RepeatDataset', dataset=dict(pipeline=[dict(type='LoadImageFromFile'), resize]))
        assert self.size(loader=dict(dataset=dataset), data_preprocessor=dict(pad_size_divisor=32)) == (800, 1344)

    def test_what_a_depth_estimators_images_are_cropped_to(self):
        """Height comes first; the width that NYU's images are resized to is that of none of them."""
        loaders = dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='RandomCrop', crop_size=(480, 640))])))
        bound = dict(dataset=dict(pipeline=[dict(type='Resize', scale=(2000, 480), keep_ratio=True)]))
        model = dict(decode_head=dict(type='DepthHead'))
        assert export._example_size(dict(loaders, model=model, test_dataloader=bound), None) == (480, 640)

    def test_nothing_to_go_by(self):
        with pytest.raises(ValueError, match='does not say how large images are: pass --shape HEIGHT WIDTH'):
            self.size()
        with pytest.raises(ValueError, match=r'the shape must be a height and a width, got \(0, 4\)'):
            self.size((0, 4))
