"""PNG files whose bytes depend on no library, and which every library reads."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from kddense.apps.street_scenes import png

RANDOM = np.random.RandomState(0)
IMAGES = {
    'photograph': RANDOM.randint(0, 256, (37, 53, 3)).astype(np.uint8),
    'larger than a stored block': RANDOM.randint(0, 256, (160, 170, 3)).astype(np.uint8),
    'labels': np.repeat(RANDOM.randint(0, 34, (9, 40)), 11, axis=1).astype(np.uint8),
    'noise': RANDOM.randint(0, 256, (31, 29)).astype(np.uint8),
    'one colour': np.full((300, 700), 7, np.uint8),
    'one pixel': np.array([[200]], np.uint8),
    'millimetres': RANDOM.randint(0, 65536, (23, 19)).astype(np.uint16),
    'slope': np.add.outer(np.arange(80) * 300, np.arange(90)).astype(np.uint16),
    'every length of run': np.concatenate([np.full(n, n % 2) for n in range(1, 600)]).astype(np.uint8)[None],
}


@pytest.mark.parametrize('name', IMAGES)
def test_libraries_read_what_was_written(name):
    image = IMAGES[name]
    data = png.encode(image)

    opened = np.array(Image.open(io.BytesIO(data)))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(opened, image)
    np.testing.assert_array_equal(decoded[..., ::-1] if image.ndim == 3 else decoded, image)
    assert decoded.dtype == image.dtype


def test_runs_are_short():
    assert len(png.encode(IMAGES['one colour'])) < 4000  # of 210000
    assert len(png.encode(IMAGES['labels'])) < 0.6 * IMAGES['labels'].size


def test_the_stream_is_plain_deflate():
    data = png.encode(IMAGES['labels'])
    (length,) = struct.unpack('>I', data[33:37])
    assert data[37:41] == b'IDAT'
    assert len(zlib.decompress(data[41 : 41 + length])) == IMAGES['labels'].size + len(IMAGES['labels'])


@pytest.mark.parametrize('image', [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)])
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match='a PNG is written of uint8 or uint16'):
        png.encode(image)
