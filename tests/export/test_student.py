"""What is exported is the student alone: stock libraries load it where kddense cannot be imported, and see the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kddense
from kddense.export import export_student, onnx
from kddense.training.runs import read_run

from ..helpers.export_runs import plain

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


def test_a_depth_estimator_works_with_kddense(depth_run, tmp_path, toy_data):
    from mmseg.apis import inference_model, init_model

    export_student(depth_run.folder, tmp_path / 'student.pth')
    model = init_model(str(tmp_path / 'student.py'), str(tmp_path / 'student.pth'), device='cpu')
    image = toy_data / 'images' / '0.png'
    found = inference_model(model, str(image)).pred_depth_map.data
    assert torch.equal(found, depth_run.predict(image).pred_depth_map.data)


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
        monkeypatch.setattr(onnx, 'ONNX_PACKAGES', ('torch', 'no_such_onnx'))
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
