"""A few depths beside the image: where they come from, that they repeat, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from kddense import AddSparseDepth

DEPTH = np.arange(1, 33, dtype=np.float32).reshape(4, 8)


def sample(height=4, width=8):
    image = np.full((height, width, 3), 100, np.uint8)
    return dict(img=image, gt_depth_map=DEPTH, img_path='a.png')


def test_a_channel_holds_the_depth_of_the_pixels_that_were_drawn():
    results = AddSparseDepth(points=6, fixed=True)(sample())
    found = results['teacher_img']
    assert results['img'].shape == (4, 8, 3)
    assert found.shape == (4, 8, 4)
    assert found.dtype == np.float32
    assert (found[..., :3] == 100).all()
    drawn = found[..., 3] > 0
    assert 1 <= drawn.sum() <= 6
    assert np.array_equal(found[..., 3][drawn], DEPTH[drawn])


def test_a_depth_of_another_size_is_read_at_the_same_place():
    found = AddSparseDepth(points=50, fixed=True, key='img')(sample(2, 4))['img'][..., 3]
    rows, columns = np.nonzero(found)
    assert len(rows) > 4
    assert np.array_equal(found[rows, columns], DEPTH[2 * rows, 2 * columns])


def test_a_fixed_one_is_of_the_path_alone():
    fixed, free = AddSparseDepth(points=4, fixed=True), AddSparseDepth(points=4)
    state = np.random.get_state()[1].copy()
    one, same, other = (fixed(dict(sample(), img_path=path))['teacher_img'] for path in ('a', 'a', 'b'))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.array_equal(state, np.random.get_state()[1])
    first, second = (free(sample())['teacher_img'] for _ in range(2))
    assert not np.array_equal(first, second)


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match='points must be at least 1, got 0'):
        AddSparseDepth(points=0)
    with pytest.raises(ValueError, match="image 'a.png' has no depth; put LoadDepthAnnotation before it"):
        AddSparseDepth()(dict(img=np.zeros((4, 4, 3)), img_path='a.png'))
