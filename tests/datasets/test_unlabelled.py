"""Images without labels: folders, lists, videos, COCO files; what cannot be read."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from kddense.datasets import UnlabelledImages


@pytest.fixture
def frames(toy_data, tmp_path):
    for index in range(3):
        shutil.copy(toy_data / 'images' / f'{index}.png', tmp_path / f'{index}.png')
    return tmp_path


@pytest.fixture
def video(tmp_path):
    """Ten frames, each of one grey: 0, 20, 40 and so on."""
    file = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*'MJPG'), 10, (32, 16))
    for index in range(10):
        writer.write(np.full((16, 32, 3), 20 * index, np.uint8))
    writer.release()
    return file


def test_images_of_several_sources(frames, video):
    (frames / 'list.txt').write_text('2.png\n0.png\n')
    coco = dict(images=[dict(id=7, file_name='1.png', height=64, width=64)])  # as of a test set: without annotations
    (frames / 'images.json').write_text(json.dumps(coco))
    sources = [frames, frames / 'list.txt', frames / '[12].png', frames / 'images.json', video]
    data = UnlabelledImages(list(map(str, sources)), every=4)
    names = [data.get_data_info(index)['img_path'].rpartition('/')[2] for index in range(len(data))]
    assert names == ['0.png', '1.png', '2.png', '0.png', '2.png', '1.png', '2.png', '1.png', *['drive.avi'] * 3]
    assert [data.get_data_info(index)['img_id'] for index in range(len(data))] == list(range(11))
    assert (data[1]['img'] == cv2.imread(str(frames / '1.png'))).all()
    assert data[1]['ori_shape'] == (64, 64)


def test_frames_of_a_video(video):
    data = UnlabelledImages(str(video), every=3)
    greys = [float(data[index]['img'].mean()) for index in range(len(data))]
    assert greys == pytest.approx([0, 60, 120, 180], abs=6)


def test_a_step_that_loads_from_files_is_left_out(frames):
    data = UnlabelledImages(
        str(frames), pipeline=[dict(type='LoadImageFromFile'), lambda results: results['img'].shape]
    )
    assert data[0] == (64, 64, 3)


def test_what_cannot_be_read_is_named_and_another_is_taken(frames, monkeypatch):
    (frames / '1.png').write_bytes(b'no image')
    said = []
    monkeypatch.setattr('kddense.datasets.unlabelled.print_log', lambda text, **_: said.append(text))
    data = UnlabelledImages(str(frames))
    for _ in range(2):
        assert data[1]['img_path'] != str(frames / '1.png')
    assert said == [f'unlabelled image {frames / "1.png"} cannot be read and is left out, 1 so far']
    assert data.unreadable == {str(frames / '1.png')}


def test_frames_that_cannot_be_read_are_named_too(video, monkeypatch):
    """As of a video that ends before its header says."""
    said = []
    monkeypatch.setattr('kddense.datasets.unlabelled.print_log', lambda text, **_: said.append(text))
    monkeypatch.setattr('kddense.datasets.unlabelled._frames_of', lambda file: 12)
    data = UnlabelledImages(str(video))
    assert 'frame' in data[11]
    assert data.unreadable >= {f'{video} (frame 11)'}
    assert said[0] == f'unlabelled image {video} (frame 11) cannot be read and is left out, 1 so far'


@pytest.mark.parametrize(
    'contents, sentence',
    [
        ('{"images": []}', "there is no image in '.*images.json': its list of `images` is empty"),
        ('{"annotations": []}', "images.json' is no COCO file: it needs `images`"),
        ('[1]', "images.json' is no COCO file"),
        ('no JSON', "images.json' is no COCO file"),
        (None, "there is no COCO file '.*images.json'"),
    ],
)
def test_a_coco_file_without_images_is_one_sentence(tmp_path, contents, sentence):
    if contents is not None:
        (tmp_path / 'images.json').write_text(contents)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        UnlabelledImages(str(tmp_path / 'images.json'))


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(images='nowhere'), "there is no image in 'nowhere'"),
        (dict(images='nowhere.mp4'), "'nowhere.mp4' is no video with frames that OpenCV can read"),
        (dict(images='nowhere', every=0), 'every must be at least 1, got 0'),
    ],
)
def test_what_names_no_image_is_one_sentence(options, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        UnlabelledImages(**options)
