"""Pixels: a batch rewritten for another network is what that network's own data preprocessor would have made."""

import itertools

import pytest
import torch
from mmengine.model import ImgDataPreprocessor

from kddense.exchange import ImageFormat
from kddense.teachers.images import fit_canvas, pad_to_divisor, rescale, translate

from ..helpers import tiny

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
OTHERS = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])
HALF = dict(mean=[127.5], std=[127.5])
FORMATS = {
    'imagenet': dict(**IMAGENET, bgr_to_rgb=True),
    'caffe': dict(**OTHERS, bgr_to_rgb=False),
    'caffe, other padding': dict(**OTHERS, pad_value=7),
    'reversed': dict(**IMAGENET, rgb_to_bgr=True, pad_value=-1),
    'raw': dict(),
    'raw reversed': dict(bgr_to_rgb=True, pad_value=114),
}
SIZES = ((40, 52), (64, 33))


def batch(**options):
    preprocessor = ImgDataPreprocessor(pad_size_divisor=32, **options)
    images = [tiny.image(*size, seed=i) for i, size in enumerate(SIZES)]
    return preprocessor({'inputs': images})['inputs'].float(), ImageFormat.of(preprocessor)


@pytest.mark.parametrize('source, target', itertools.permutations(FORMATS, 2))
def test_translated_is_what_the_targets_preprocessor_makes(source, target):
    images, own = batch(**FORMATS[source])
    expected, other = batch(**FORMATS[target])
    before = images.clone()
    translated = translate(images, own, other, SIZES)
    torch.testing.assert_close(translated, expected, rtol=0, atol=1e-4)
    assert torch.equal(images, before), "the student's own inputs must stay as they are"


@pytest.mark.parametrize('name', FORMATS)
def test_equal_formats_are_not_touched(name):
    images, own = batch(**FORMATS[name])
    assert translate(images, own, own, SIZES) is images


def test_one_mean_for_all_channels():
    gray = ImageFormat((127.5,), (127.5,))
    images = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(
        translate(images, ImageFormat(), gray, [(4, 4)]), (images - 127.5) / 127.5, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_the_formats_of_other_libraries(scope):
    from mmdet.models import DetDataPreprocessor
    from mmseg.models import SegDataPreProcessor

    numbers = dict(**IMAGENET, bgr_to_rgb=True)
    if scope == 'mmdet':
        built = DetDataPreprocessor(**numbers, pad_value=3, pad_size_divisor=64)
    else:
        built = SegDataPreProcessor(**numbers, pad_val=3, size_divisor=64)
    expected = ImageFormat(pytest.approx(tuple(IMAGENET['mean'])), pytest.approx(tuple(IMAGENET['std'])), True, 3.0, 64)
    assert ImageFormat.of(built) == expected


def test_a_preprocessor_of_a_fixed_size_pads_to_no_multiple():
    from mmseg.models import SegDataPreProcessor

    assert ImageFormat.of(SegDataPreProcessor(size=(64, 64))) == ImageFormat()


@pytest.mark.parametrize('scale', [2, 0.5, 1.5])
def test_rescale_keeps_pixels_where_they_are(scale):
    ramp = torch.arange(64.0).expand(1, 1, 32, 64) + 0.5
    scaled = rescale(ramp, scale)
    assert scaled.shape[-2:] == (32 * scale, 64 * scale)
    expected = (torch.arange(64 * scale) + 0.5) / scale
    torch.testing.assert_close(scaled[0, 0, 5, 4:-4], expected[4:-4], rtol=0, atol=1e-3)
    assert rescale(ramp, 1) is ramp


def test_rescale_averages_what_it_drops():
    stripes = torch.zeros(1, 1, 32, 64)
    stripes[..., ::4] = 1
    assert rescale(stripes, 0.25)[0, 0, 4, 4:-4].mean().item() == pytest.approx(0.25, abs=0.05)


def test_canvases_and_divisors():
    images = [torch.ones(3, 5, 9), torch.ones(3, 8, 4)]
    canvas = fit_canvas(images, (6, 6), -1.0)
    assert canvas.shape == (2, 3, 6, 6)
    assert canvas[0, 0].sum() == 5 * 6 - 6
    assert canvas[1, 0].sum() == 6 * 4 - 6 * 2
    padded = pad_to_divisor(torch.ones(1, 3, 5, 9), 4, 2.0)
    assert padded.shape == (1, 3, 8, 12)
    assert (padded[..., 5:, :] == 2).all()
    assert (padded[..., 9:] == 2).all()
    assert pad_to_divisor(torch.ones(1, 3, 8, 8), 4, 2.0).shape == (1, 3, 8, 8)
