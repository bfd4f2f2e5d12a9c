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
    drive = ['drive.avi'] * 3
    assert names == ['0.png', '1.png', '2.png', *drive, '0.png', '2.png', '1.png', '2.png', '1.png', *drive]
    assert [data.get_data_info(index)['img_id'] for index in range(len(data))] == list(range(14))
    assert (data[1]['img'] == cv2.imread(str(frames / '1.png'))).all()
    assert data[1]['ori_shape'] == (64, 64)


def test_frames_of_a_video(video):
    data = UnlabelledImages(str(video), every=3)
    greys = [float(data[index]['img'].mean()) for index in range(len(data))]
    assert greys == pytest.approx([0, 60, 120, 180], abs=6)


def test_videos_of_folders_patterns_and_lists(video, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('kddense.datasets.unlabelled.print_log', lambda text, **_: said.append(text))
    (tmp_path / 'broken.avi').write_bytes(b'no video')
    (tmp_path / 'list.txt').write_text(f'{video}\n')
    for source in (tmp_path, tmp_path / '*.avi', tmp_path / 'list.txt'):
        data = UnlabelledImages(str(source), every=5)
        assert [data.get_data_info(index)['frame'] for index in range(len(data))] == [0, 5]
    assert said[0] == f'unlabelled image {tmp_path / "broken.avi"} cannot be read and is left out, 1 so far'
    video.unlink()
    with pytest.raises(FileNotFoundError, match='there is no image in .* that can be read'):
        UnlabelledImages(str(tmp_path / '*.avi'))


def test_images_of_one_name_and_of_other_folders(frames, tmp_path_factory):
    """Only labels need names of their own."""
    shutil.copy(frames / '0.png', frames / '0.jpg')
    assert len(UnlabelledImages(str(frames))) == 4
    elsewhere = tmp_path_factory.mktemp('lists') / 'all.txt'
    elsewhere.write_text(f'{frames / "2.png"}\n')
    assert (UnlabelledImages(str(elsewhere))[0]['img'] == cv2.imread(str(frames / '2.png'))).all()


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


def test_images_that_cannot_be_read_are_not_tried_again(frames):
    for name in ('1.png', '2.png'):
        (frames / name).write_bytes(b'no image')
    data = UnlabelledImages(str(frames), max_refetch=2)
    assert {data[index]['img_path'] for index in (0, 1, 2, 1, 2)} == {str(frames / '0.png')}
    (frames / '0.png').write_bytes(b'no image')
    with pytest.raises(
        ValueError, match=rf'^images: none of the 3 images can be read, the first is {frames / "0.png"}'
    ):
        data[0]
    with pytest.raises(ValueError, match='^images: 2 images were tried, and none could be used; 2 of 3 cannot be read'):
        UnlabelledImages(str(frames), max_refetch=1)[0]


def test_frames_that_cannot_be_read_are_named_too(video, monkeypatch):
    """As of a video that ends before its header says."""
    said = []
    monkeypatch.setattr('kddense.datasets.unlabelled.print_log', lambda text, **_: said.append(text))
    monkeypatch.setattr('kddense.datasets.unlabelled._frames_of', lambda file: 12)
    data = UnlabelledImages(str(video))
    assert 'frame' in data[11]
    assert data.unreadable >= {f'{video} (frame 11)'}
    assert said[0] == f'unlabelled image {video} (frame 11) cannot be read and is left out, 1 so far'


def test_a_video_without_frames_is_one_sentence(tmp_path):
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    with pytest.raises(FileNotFoundError, match="broken.mp4' is no video with frames that OpenCV can read"):
        UnlabelledImages(str(tmp_path / 'broken.mp4'))


def test_batches_that_are_resized_with_their_boxes(frames):
    """As YOLOX does after its first iterations."""
    from mmdet.models import BatchSyncRandomResize
    from mmengine.logging import MessageHub
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        packed = UnlabelledImages(str(frames), pipeline=[dict(type='PackDetInputs', meta_keys=('img_shape',))])[0]
    sample = packed['data_samples']
    sample.set_metainfo(dict(pad_shape=(64, 64)))  # as of a batch
    assert len(sample.gt_instances.bboxes) == len(sample.gt_instances.labels) == 0
    resize = BatchSyncRandomResize((96, 96))
    resize._input_size = (96, 96)
    MessageHub.get_instance('test_batches_that_are_resized').update_info('iter', 0)
    inputs, _ = resize(packed['inputs'][None].float(), [sample])
    assert inputs.shape == (1, 3, 96, 96)


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
        (
            dict(images='nowhere.mp4'),
            "there is no image in 'nowhere.mp4': name a folder, a pattern or a .txt list of .*.mp4",
        ),
        (dict(images=__file__ + '/*.mp4'), 'there is no image in'),
        (dict(images='nowhere', every=0), 'every must be at least 1, got 0'),
    ],
)
def test_what_names_no_image_is_one_sentence(options, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        UnlabelledImages(**options)
