"""The ONNX file gives PyTorch's values, for all images that it says it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from mmseg.models.utils import Upsample
from torch import nn

from kddense.export import export_student, network, onnx

from ..helpers import stock_models, tiny
from ..helpers.export_runs import TrainedRun, files_in


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

        def run(trained: TrainedRun, outputs: str = 'results', **options: Any):
            exported = export_student(trained.folder, tmp_path / 'student.pth', onnx=True, outputs=outputs, **options)
            assert exported.onnx.dynamic == ('batch', 'height', 'width')
            assert exported.onnx.difference < 1e-5
            assert [file.name for file in exported.files] == ['student.pth', 'student.py', 'student.onnx']
            assert set(files_in(tmp_path)) == {'student.pth', 'student.py', 'student.onnx'}
            return exported

        return run

    @torch.no_grad()
    def test_a_segmentors_logits(self, segmentor_run, exported, images):
        found = run_onnx(exported(segmentor_run, 'raw').files[2], images)
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
        found = run_onnx(exported(detector_run, 'features', ema=True).files[2], images)
        (hook,) = (hook for hook in detector_run.runner.hooks if type(hook).__name__ == 'EMAHook')
        expected = hook.ema_model.module.student.eval().extract_feat(images)
        assert list(found) == [f'level_{index}' for index in range(5)]
        for level, own in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(level, own, rtol=1e-4, atol=1e-4)

    def test_it_says_what_its_input_is(self, segmentor_run, exported):
        from onnx import load

        model = load(exported(segmentor_run).files[2])
        facts = {item.key: json.loads(item.value) for item in model.metadata_props}
        assert facts['classes'] == ['ground', 'disc', 'square', 'cross']
        assert facts['bgr_to_rgb'] is True
        assert facts['mean'] == pytest.approx([123.675, 116.28, 103.53])
        assert facts['std'] == pytest.approx([58.395, 57.12, 57.375])


class TestClassMaps:
    @pytest.mark.parametrize('stock', ['pspnet_r50-d8', 'deeplabv3_r50-d8'])
    def test_classes_are_mmsegs(self, tmp_path, stock):
        self.compare(tiny.segmentor(stock), tmp_path)

    def test_one_class_above_a_threshold(self, tmp_path):
        sigmoid = dict(type='CrossEntropyLoss', use_sigmoid=True)
        one = {'num_classes': 2, 'out_channels': 1, 'threshold': 0.52, 'loss_decode': sigmoid}
        heads = ('decode_head', 'auxiliary_head')
        change = {f'{head}.{key}': value for head in heads for key, value in one.items()}
        self.compare(tiny.segmentor('pspnet_r50-d8', change), tmp_path)

    @torch.no_grad()
    def compare(self, config, folder):
        pytest.importorskip('onnxruntime')
        student = tiny.build(config, scope='mmseg').eval()
        tiny.shake(student)
        images = torch.stack([(tiny.image(96, 128, seed).float() - 120) / 58 for seed in range(3)])
        self.spread(student, images)
        report = onnx.write_onnx(student, folder / 'small.onnx', onnx.OnnxOptions((64, 96)), {})
        assert report.outputs == ('classes',)
        found = run_onnx(folder / 'small.onnx', images)
        assert list(found) == ['classes']
        expected = torch.cat([sample.pred_sem_seg.data for sample in student.predict(images)])
        assert len(expected.unique()) > 1
        assert (found['classes'] == expected).float().mean() > 0.999  # but where two logits are equal

    def spread(self, student, images):
        """Move the logits so that every class is somewhere the greatest."""
        logits = student.encode_decode(images, [dict(img_shape=(96, 128))] * 3)
        student.decode_head.conv_seg.bias -= logits.mean(dim=(0, 2, 3))


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
        options = onnx.OnnxOptions((32, 48), 'features')
        return lambda function: onnx.write_onnx(Toy(function).eval(), tmp_path / 'toy.onnx', options, {})

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
        exportable = onnx.exportable

        def wrong(student):
            student = exportable(student)
            student.backbone.weight.data.mul_(1.01)
            return student

        monkeypatch.setattr(onnx, 'exportable', wrong)
        with pytest.raises(
            RuntimeError, match='Toy cannot be exported to ONNX: its values differ .* by [0-9.]+e-0[23]'
        ):
            write(nn.Identity())

    def test_values_that_are_not_numbers(self, write):
        with pytest.raises(RuntimeError, match='its values differ from those of PyTorch by nan'):
            write(lambda maps: maps / 0 * 0)

    def test_a_model_of_another_kind(self, tmp_path):
        with pytest.raises(RuntimeError, match='Linear is neither a segmentor, a depth estimator nor a detector'):
            onnx.write_onnx(nn.Linear(1, 1), tmp_path / 'toy.onnx', onnx.OnnxOptions((32, 48)), {})

    def test_sizes_of_images_that_nothing_is_cut_by(self, segmentor_run, tmp_path):
        with pytest.raises(ValueError, match='--padded: EncoderDecoder has no use for the sizes'):
            export_student(segmentor_run.folder, tmp_path / 'student.pth', onnx=True, padded=True)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize('name', ['outputs', 'dynamic'])
    def test_a_choice_that_there_is_not(self, name):
        with pytest.raises(ValueError, match=f"^{name} must be one of .*, got 'all'$"):
            onnx.OnnxOptions((32, 48), **{name: 'all'})


class TestTransformer:
    @pytest.mark.parametrize(
        'dynamic, axes', [('size', ('batch', 'height', 'width')), ('batch', ('batch',)), ('none', ())]
    )
    def test_segformer_at_any_size(self, tmp_path, dynamic, axes):
        pytest.importorskip('onnxruntime')
        config = stock_models.small_model('mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py', 4)
        student = stock_models.build(config, 'mmseg').eval()
        tiny.shake(student)
        report = onnx.write_onnx(student, tmp_path / 'small.onnx', onnx.OnnxOptions((64, 96), 'raw', dynamic), {})
        assert report.dynamic == axes
        assert report.limit == ''
        assert report.difference < 1e-5

    @pytest.mark.parametrize('batch_first', [False, True])
    def test_attention_without_constants(self, batch_first):
        torch.manual_seed(0)
        layer = nn.MultiheadAttention(12, 3, batch_first=batch_first).eval()
        query, key = torch.randn(4, 5, 12), torch.randn((4, 7, 12) if batch_first else (7, 5, 12))
        own = network.exportable(nn.Sequential(layer))[0]
        assert type(own) is not type(layer)
        torch.testing.assert_close(own(query, key, key)[0], layer(query, key, key)[0])
        with pytest.raises(RuntimeError, match='attention with a mask cannot be exported'):
            own(query, key, key, attn_mask=torch.zeros(1))
