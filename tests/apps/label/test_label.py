"""kddense label: what is written by each family, interruptions, shards, and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kddense.apps.label import main
from kddense.apps.label.families import Depths
from kddense.apps.label.folder import LabelFolder
from kddense.datasets.image_files import find_images

TASKS = ('detector', 'segmentor', 'depth')
LEAST = {'detector': '0.27', 'segmentor': '0.3'}
KILLED_IMAGES = int(os.environ.get('KDDENSE_IMAGES', '60'))  # KDDENSE_IMAGES=1000 pytest -k killed: some minutes
MARKS = {'detector': 'records/**/*.json', 'segmentor': 'labels/**/*.png', 'depth': 'depth/**/*.png'}


@pytest.fixture(scope='session')
def frames(toy_data, tmp_path_factory):
    """Eleven images in two folders, one of which cannot be read."""
    folder = tmp_path_factory.mktemp('frames')
    for index in range(10):
        place = folder / ('a' if index % 2 else 'b/c') / f'{index}.png'
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy_data / 'images' / f'{index % 8}.png', place)
    (folder / 'a' / 'broken.png').write_bytes(b'no image')
    return folder


@pytest.fixture(scope='session')
def models(request, toy_data, tmp_path_factory):
    """Configs and checkpoints by task, of models that are untrained."""
    folder = tmp_path_factory.mktemp('models')
    found = {}
    for name in TASKS:
        task = request.getfixturevalue(name)
        config = task.plain()
        if name == 'detector':
            config.model.test_cfg.rcnn.score_thr = 0.05
        config.dump(folder / f'{name}.py')
        torch.manual_seed(4)
        meta = dict(dataset_meta=dict(classes=['disc', 'square', 'cross'], palette=[[0, 0, 0]] * 3))
        torch.save(dict(state_dict=task.build(config.model).state_dict(), meta=meta), folder / f'{name}.pth')
        found[name] = [str(folder / f'{name}.py'), str(folder / f'{name}.pth')]
    return found


def label(models, task, source, out, *options):
    scores = [] if task == 'depth' or {'--threshold', '--precision'} & set(options) else ['--threshold', LEAST[task]]
    return main([*models[task], str(source), '--out', str(out), '--device', 'cpu', *scores, *options])


def contents(folder):
    """Return all files of a folder by their path."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob('*')) if one.is_file()}


@pytest.fixture(scope='session')
def whole(models, frames, tmp_path_factory):
    """What an uninterrupted run writes, by task."""
    folders = {task: tmp_path_factory.mktemp(task) / 'labels' for task in TASKS}
    for task, folder in folders.items():
        label(models, task, frames, folder)
    return folders


def test_boxes_are_cocos(whole, frames, detector):
    from mmdet.datasets import CocoDataset
    from pycocotools.coco import COCO

    coco = COCO(str(whole['detector'] / 'annotations.json'))
    assert [one['name'] for one in coco.dataset['categories']] == ['disc', 'square', 'cross']
    assert len(coco.dataset['images']) == 10
    assert coco.dataset['annotations']
    for one in coco.dataset['annotations']:
        x, y, width, height = one['bbox']
        assert one['score'] >= 0.27
        assert one['area'] == pytest.approx(width * height)
        assert 0 <= x < x + width <= 64.01
        assert 0 <= y < y + height <= 64.01
    dataset = CocoDataset(
        ann_file=str(whole['detector'] / 'annotations.json'),
        data_prefix=dict(img=str(frames)),
        metainfo=dict(classes=('disc', 'square', 'cross')),
        pipeline=[],
    )
    assert Path(dataset.get_data_info(0)['img_path']).is_file()


def test_boxes_are_what_the_stock_function_finds(whole, models, frames):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(*models['detector'], device='cpu')
    found = inference_detector(model, str(frames / 'a' / '1.png')).pred_instances.numpy()
    record = json.loads((whole['detector'] / 'records/a/1.json').read_text())
    np.testing.assert_allclose(record['boxes'], found.bboxes, rtol=1e-5)
    np.testing.assert_allclose(record['scores'], found.scores, rtol=1e-5)
    assert record['labels'] == found.labels.tolist()


def test_classes_of_pixels_are_kept_where_they_are_sure(whole, models, frames):
    from mmseg.apis import inference_model, init_model

    model = init_model(*models['segmentor'], device='cpu')
    found = inference_model(model, str(frames / 'a' / '3.png'))
    labels, scores = (np.array(Image.open(whole['segmentor'] / part / 'a/3.png')) for part in ('labels', 'scores'))
    share = found.seg_logits.data.softmax(0).max(0).values.numpy()
    np.testing.assert_allclose(scores, np.floor(share * 256).clip(max=255), atol=1)
    kept = scores >= round(0.3 * 256)
    assert (labels[kept] == found.pred_sem_seg.data[0].numpy()[kept]).all()
    assert (labels[~kept] == 255).all()


def test_depth_is_in_millimetres(whole, models, frames):
    from mmseg.apis import inference_model, init_model

    model = init_model(*models['depth'], device='cpu')
    found = inference_model(model, str(frames / 'b/c' / '2.png')).pred_depth_map.data.numpy()
    stored = np.array(Image.open(whole['depth'] / 'depth/b/c/2.png'))
    assert stored.dtype == np.uint16 or stored.dtype == np.int32
    np.testing.assert_allclose(stored, 1000 * found.reshape(64, 64), atol=0.51)


@pytest.mark.parametrize('task', TASKS)
def test_unreadable_images_are_named_skipped_and_counted(whole, models, frames, task, capsys):
    assert label(models, task, frames, whole[task]) == 0  # nothing is left to do
    said = capsys.readouterr().out
    assert '10 of 11 images are labelled' in said
    assert f'by their paths in {frames}' in said
    assert '1 could not be read: a/broken.png' in said


@pytest.mark.parametrize('task', TASKS)
def test_shards_come_to_the_same(whole, models, frames, task, tmp_path, capsys):
    label(models, task, frames, tmp_path / 'labels', '--shard', '2/3')
    assert 'left to other shards' in capsys.readouterr().out
    for shard in ('1/3', '3/3'):
        label(models, task, frames, tmp_path / 'labels', '--shard', shard)
    assert contents(tmp_path / 'labels') == contents(whole[task])


@pytest.mark.parametrize('task', TASKS)
def test_killed_processes_go_on_and_come_to_the_same(models, toy_data, task, tmp_path):
    """Two processes share the images; both are killed four times, from the first label on."""
    frames, out = tmp_path / 'frames', tmp_path / 'killed'
    frames.mkdir()
    for index in range(KILLED_IMAGES):
        shutil.copy(toy_data / 'images' / f'{index % 8}.png', frames / f'{index:04d}.png')

    def start():
        own = [(models, task, frames, out, '--shard', shard) for shard in ('1/2', '2/2')]
        processes = [multiprocessing.get_context('fork').Process(target=label, args=one) for one in own]
        for process in processes:
            process.start()
        return processes

    for share in (0, 0.1, 0.3, 0.6):
        processes = start()
        while any(one.is_alive() for one in processes) and len(list(out.glob(MARKS[task]))) <= share * KILLED_IMAGES:
            time.sleep(0.005)
        for process in processes:
            process.kill()
            process.join()
        assert -signal.SIGKILL in [process.exitcode for process in processes], 'they were killed in the middle'
        assert len(list(out.glob(MARKS[task]))) < KILLED_IMAGES
    for process in start():
        process.join()
        assert process.exitcode == 0
    label(models, task, frames, tmp_path / 'whole')
    assert contents(out) == contents(tmp_path / 'whole')


@pytest.mark.parametrize('task', ['detector', 'segmentor'])
def test_least_scores_are_chosen_on_validation_images(models, frames, task, tmp_path, capsys):
    label(models, task, frames, tmp_path / 'labels', '--precision', '0.0')
    chosen = json.loads((tmp_path / 'labels' / 'thresholds.json').read_text())
    assert chosen['images'] == 8
    assert chosen['precision'] == 0
    assert any(value is not None for value in chosen['classes'].values())
    assert 'choosing the least scores on 8 validation images' in capsys.readouterr().out


def test_a_class_that_is_never_right_gets_no_labels(models, frames, tmp_path, capsys):
    label(models, 'detector', frames, tmp_path / 'labels', '--precision', '1.0')
    coco = json.loads((tmp_path / 'labels' / 'annotations.json').read_text())
    chosen = json.loads((tmp_path / 'labels' / 'thresholds.json').read_text())['classes']
    without = [name for name, value in chosen.items() if value is None]
    assert without, 'an untrained detector is hardly ever right'
    ids = {one['id'] for one in coco['categories'] if one['name'] in without}
    assert not ids & {one['category_id'] for one in coco['annotations']}
    assert f'{without[0]}: no score is sure enough' in capsys.readouterr().out


TERNARY = [
    'default_hooks.quantise.type=kddense.QuantiseHook',
    'default_hooks.quantise.weights.type=kddense.TernaryQuantiser',
]


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['--threshold', '0.4'], r"--out '.*labels' holds labels that were made with other thresholds: name another"),
        (['--precision', '0.4'], 'other thresholds and validation_images'),
        (['--cfg-options', 'model.data_preprocessor.mean=[0,0,0]'], 'other model'),
        (['--cfg-options', *TERNARY], 'other model'),
        (['--cfg-options', 'test_dataloader.dataset.metainfo.classes=[a,b,c,d]'], 'other classes'),
        (['--cfg-options', 'test_dataloader.dataset.pipeline=[]'], 'test_dataloader.dataset has no pipeline'),
        (['--depth-levels', '256'], '--depth-levels: only depth has levels'),
    ],
)
def test_another_run_in_the_same_folder_is_refused(whole, models, frames, options, sentence):
    with pytest.raises(SystemExit, match=f'^error: .*{sentence}'):
        label(models, 'segmentor', frames, whole['segmentor'], *options)


def test_images_may_join_theirs(models, frames, tmp_path, capsys):
    own = shutil.copytree(frames / 'a', tmp_path / 'own')
    label(models, 'depth', own, tmp_path / 'labels')
    before = contents(tmp_path / 'labels')
    shutil.copy(own / '1.png', own / 'more.png')
    label(models, 'depth', own, tmp_path / 'labels')
    assert '6 of 7 images are labelled' in capsys.readouterr().out
    after = contents(tmp_path / 'labels')
    assert set(after) - set(before) == {'depth/more.png'}
    assert after['depth/more.png'] == after['depth/1.png']
    assert {key: after[key] for key in before} == before


def test_labels_of_another_folders_images_are_refused(whole, models, frames, tmp_path):
    shutil.copytree(frames, tmp_path / 'others')
    with pytest.raises(SystemExit, match='holds labels that were made with other images: name another folder'):
        label(models, 'depth', tmp_path / 'others', whole['depth'])


def test_labels_among_the_images_are_refused(models, frames, tmp_path):
    own = shutil.copytree(frames, tmp_path / 'own')
    with pytest.raises(SystemExit, match=r"^error: --out '.*out' lies in the folder of images '.*own': name a folder"):
        label(models, 'depth', own, own / 'out')
    with pytest.raises(SystemExit, match=r"^error: --out '.*' holds images to be labelled, a/1.png say"):
        label(models, 'depth', own / '**/*.png', tmp_path)
    assert label(models, 'depth', own / 'a/*.png', own / 'out') == 0  # a pattern that finds no label


def test_a_run_that_could_not_choose_leaves_the_folder_free(models, frames, tmp_path):
    options = ['--precision', '0.5', '--cfg-options']
    for change, sentence in (
        ('val_dataloader.dataset.ann_file=nowhere.json', 'nowhere.json'),
        ('val_dataloader.dataset.indices=0', '--precision: val_dataloader has no validation images .* or --threshold'),
    ):
        with pytest.raises(SystemExit, match=f'^error: .*{sentence}'):
            label(models, 'detector', frames, tmp_path / 'labels', *options, change)
    assert label(models, 'detector', frames, tmp_path / 'labels', '--threshold', '0.3') == 0


@pytest.mark.parametrize(
    'task, own',
    [('detector', 'annotations.json'), ('segmentor', 'labels/a/1.png'), ('depth', 'unreadable/a/1.png')],
)
def test_a_folder_that_is_not_its_own_is_left_alone(models, frames, task, own, tmp_path):
    out = tmp_path / 'mine'
    (out / own).parent.mkdir(parents=True)
    (out / own).write_bytes(b'by hand')
    (out / 'thresholds.json').write_text('{}')  # alone it may be of a run that was killed before its first image
    sentence = (
        rf"^error: --out '.*mine' holds something else, {own.split('/')[0]} without a run.json .*: name another folder$"
    )
    with pytest.raises(SystemExit, match=sentence):
        label(models, task, frames, out)
    assert contents(out) == {own: b'by hand', 'thresholds.json': b'{}'}


def test_chosen_scores_alone_are_no_other_folder(models, frames, tmp_path):
    """They are written first: by a run that was killed then, or a shard that began a moment ago."""
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels' / 'thresholds.json').write_text('{"classes": {}}')
    assert label(models, 'depth', frames / 'a/1.png', tmp_path / 'labels') == 0


def test_a_shard_may_begin_while_another_does(tmp_path, monkeypatch):
    """Labels that appear between its looks at the folder are not taken for somebody else's."""
    exists, identity = Path.exists, dict(weights='some')

    def other_begins(path):
        found = exists(path)
        with monkeypatch.context() as patch:
            patch.setattr(Path, 'exists', exists)
            other = LabelFolder(tmp_path, Depths(), identity)
            other.thresholds(lambda: dict(classes={}))
            other.keep({'depth/1.png': b''})
        return found

    monkeypatch.setattr(Path, 'exists', other_begins)
    assert LabelFolder(tmp_path, Depths(), identity).is_done('1.png')


@pytest.mark.parametrize('name, mend', [('thresholds', 'remove it'), ('run', 'name another folder')])
@pytest.mark.parametrize('text', ['{', '[]', ''])
def test_a_damaged_file_is_one_sentence(whole, models, frames, tmp_path, name, mend, text):
    shutil.copytree(whole['detector'], tmp_path / 'labels')
    (tmp_path / 'labels' / f'{name}.json').write_text(text)
    with pytest.raises(SystemExit, match=rf"^error: --out: '.*{name}.json' is damaged: {mend}"):
        label(models, 'detector', frames, tmp_path / 'labels')


def test_a_device_that_is_not_there(models, frames, tmp_path, capsys):
    with pytest.raises(SystemExit):
        label(models, 'depth', frames, tmp_path / 'x', '--device', 'cudaa')
    assert "argument --device: 'cudaa' is not there" in capsys.readouterr().err


def test_depth_beyond_the_levels_is_counted(models, frames, tmp_path, capsys):
    label(models, 'depth', frames / 'a/[13].png', tmp_path / 'x', '--depth-levels', '1000000')
    assert '8192 pixels lie beyond 0.065535 m' in capsys.readouterr().out
    assert json.loads((tmp_path / 'x' / 'run.json').read_text())['depth_levels'] == '1000000'
    assert not np.array(Image.open(tmp_path / 'x' / 'depth/1.png')).any()


def test_another_models_folder_is_refused(whole, models, frames, tmp_path):
    state = torch.load(models['depth'][1], weights_only=True)['state_dict']
    torch.save(
        {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}, tmp_path / 'x.pth'
    )
    with pytest.raises(SystemExit, match='holds labels that were made with other weights'):
        main([models['depth'][0], str(tmp_path / 'x.pth'), str(frames), '--out', str(whole['depth'])])


def test_without_validation_images_a_threshold_is_asked_for(models, frames, tmp_path):
    with pytest.raises(SystemExit, match='^error: --precision: the config has no validation images .* or --threshold'):
        label(models, 'detector', frames, tmp_path / 'x', '--precision', '0.5', '--cfg-options', 'val_dataloader=None')
    with pytest.raises(SystemExit, match='^error: --threshold: depth has no scores'):
        label(models, 'depth', frames, tmp_path / 'y', '--threshold', '0.5')


@pytest.mark.parametrize('shard', ['0/2', '3/2', '2', 'a/b'])
def test_a_shard_is_one_of_so_many(models, frames, tmp_path, shard, capsys):
    with pytest.raises(SystemExit):
        label(models, 'depth', frames, tmp_path / 'x', '--shard', shard)
    assert f"argument --shard: must be such as 1/4, up to 4/4, got '{shard}'" in capsys.readouterr().err


def test_images_are_found_in_folders_patterns_and_lists(frames, tmp_path):
    every = find_images(str(frames)).names
    assert every[0] == 'a/1.png'
    assert len(every) == 11
    assert find_images(str(frames / '**/*.png')).names == every
    assert find_images(str(frames / 'a/*.png')).names == tuple(one[2:] for one in every if one.startswith('a/'))
    (frames / 'some.txt').write_text('b/c/2.png\n\na/1.png\n')
    assert find_images(str(frames / 'some.txt')).names == ('a/1.png', 'b/c/2.png')
    (frames / 'some.txt').unlink()


def test_what_names_no_images_is_one_sentence(models, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SystemExit, match=r"^error: there is no image in '.*empty': name a folder, a pattern or a .txt"):
        label(models, 'depth', tmp_path / 'empty', tmp_path / 'x')
    for suffix in ('png', 'jpg'):
        (tmp_path / 'empty' / f'a.{suffix}').write_bytes(b'')
    with pytest.raises(SystemExit, match='^error: a.jpg and a.png would have labels of one name'):
        label(models, 'depth', tmp_path / 'empty', tmp_path / 'x')
