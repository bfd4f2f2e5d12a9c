"""Images of a folder as a student gets them."""

from __future__ import annotations

import mmcv
import numpy as np
import pytest
import torch

from kddense.exchange import ImageFormat
from kddense.export.images import image_files, read_images

PIXELS = ImageFormat(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0), reversed_channels=True, pad_value=7.0)


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        mmcv.imwrite(np.full((6, 12, 3), (1, 2, 3), np.uint8), str(tmp_path / f'part_{number % 2}' / f'{number}.png'))
    (tmp_path / 'labels.json').write_text('{}')
    return tmp_path


def test_images_of_all_folders_evenly_spaced(folder):
    assert [file.name for file in image_files(folder)] == ['0.png', '2.png', '4.png', '1.png', '3.png']
    assert [file.name for file in image_files(folder, most=2)] == ['0.png', '4.png']


def test_values_by_hand(folder):
    """BGR (1, 2, 3) becomes RGB (3, 2, 1); 6 x 12 fits into 9 x 8 as 4 x 8, and the rest is padding."""
    ((image, size), *_) = read_images(image_files(folder), (9, 8), PIXELS)
    assert image.shape == (1, 3, 9, 8)
    assert size.tolist() == [[4, 8]]
    assert image[0, :, :4].flatten(1).unique(dim=1).flatten().tolist() == [-7.0, -9.0, -7.25]
    assert image[0, :, 4:].unique().tolist() == [7.0]


def test_as_mmdets_preprocessor(folder):
    from mmdet.models import DetDataPreprocessor

    options = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_size_divisor=8)
    preprocessor = DetDataPreprocessor(**options)
    image = np.random.RandomState(0).randint(0, 256, (10, 12, 3), np.uint8)
    mmcv.imwrite(image, str(folder / 'random.png'))
    own = torch.from_numpy(image).permute(2, 0, 1)
    expected = preprocessor(dict(inputs=[own], data_samples=None), False)['inputs']
    ((found, size),) = read_images([folder / 'random.png'], (16, 16), ImageFormat.of(preprocessor))
    scale = min(16 / 10, 16 / 12)
    assert size.tolist() == [[round(10 * scale), 16]]
    ((found, size),) = read_images([folder / 'random.png'], (10, 16), ImageFormat.of(preprocessor))
    assert size.tolist() == [[10, 12]]
    torch.testing.assert_close(found, expected[:, :, :10])


@pytest.mark.parametrize(
    'name, message',
    [('none', 'there is no folder .*none$'), ('empty', r'.*empty holds no image \(\.jpg, .*\)$')],
)
def test_no_images(folder, name, message):
    (folder / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=f'^--images: {message}'):
        image_files(folder / name)


def test_an_image_that_cannot_be_read(folder):
    (folder / 'part_0' / '0.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'^--images: .*0\.png cannot be read as an image: mend it, or take it out'):
        list(read_images(image_files(folder), (8, 8), PIXELS))
