"""Street scenes: one geometry, the same bytes everywhere, official layouts, and nothing half-written."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from kddense.apps.street_scenes import StreetScenes, labels, writing
from kddense.apps.street_scenes.camera import Camera
from kddense.apps.street_scenes.canvas import Canvas
from kddense.apps.street_scenes.composition import make_scene
from kddense.apps.street_scenes.frame import LEAST_PIXELS, Frame, render
from kddense.apps.street_scenes.numbers import Numbers
from kddense.apps.street_scenes.surfaces import draw
from kddense.apps.street_scenes.things import normal_of

ROOT = Path(__file__).parents[3]
SMALL = dict(train=3, val=2, width=96, height=48)
# Of SMALL's files. Another digest on another machine, or with another numpy, is a bug; with another renderer it is not,
# and then writing._RENDERER has to change too.
DIGEST = '767a429f8aa2d4699c1e20ed6ccad32d1844b8c4a5636e0866ba6e6ecd2513a0'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return StreetScenes(**SMALL).write(tmp_path_factory.mktemp('scenes') / 'small', processes=2)


@pytest.fixture(scope='module', params=['easy', 'medium', 'hard'])
def frames(request) -> list[Frame]:
    scenes = StreetScenes(difficulty=request.param)
    return [scenes.render('train', index) for index in range(4)]


def digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def read(folder: Path, kind: str, split: str, index: int) -> np.ndarray:
    suffix = {'leftImg8bit': 'leftImg8bit', 'depth': 'depth'}.get(kind, f'gtFine_{kind}')
    top = kind if kind in ('leftImg8bit', 'depth') else 'gtFine'
    return np.array(Image.open(folder / top / split / 'scenes' / f'scenes_{index:06}_000000_{suffix}.png'))


class TestOneGeometry:
    def test_instances_are_of_their_labels(self, frames):
        for frame in frames:
            counted = np.isin(frame.label_ids, list(labels.CATEGORIES))
            numbered = frame.instance_ids >= 1000
            assert counted[numbered].all()
            assert (frame.instance_ids[numbered] // 1000 == frame.label_ids[numbered]).all()
            assert (frame.instance_ids[~numbered] == frame.label_ids[~numbered]).all()
            ids, sizes = np.unique(frame.instance_ids[numbered], return_counts=True)
            assert (sizes >= LEAST_PIXELS).all()
            for label in np.unique(ids // 1000):  # numbered from 0 on, without gaps
                of_label = ids[ids // 1000 == label] % 1000
                assert of_label.tolist() == list(range(len(of_label)))

    def test_train_ids_are_cityscapes(self, frames):
        from mmseg.datasets import CityscapesDataset

        names = CityscapesDataset.METAINFO['classes']
        for label, name in labels.CATEGORIES.items():
            assert names[labels.train_ids(np.uint8(label))] == name
        assert [int(labels.train_ids(np.uint8(label))) for label in (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23)] == list(
            range(11)
        )
        for frame in frames:
            assert (frame.train_ids == labels.train_ids(frame.label_ids)).all()
            assert ((frame.train_ids == 255) == (frame.label_ids == labels.EGO_VEHICLE)).all()

    def test_boxes_and_masks_are_the_instances(self, frames):
        for frame in frames:
            annotations = frame.annotations()
            covered = np.zeros(frame.label_ids.shape, int)
            for annotation in annotations:
                mask = coco_masks.decode(
                    coco_masks.frPyObjects(annotation['segmentation'], *annotation['segmentation']['size'])
                ).astype(bool)
                (own,) = np.unique(frame.instance_ids[mask])
                assert (mask == (frame.instance_ids == own)).all()
                assert annotation['category_id'] == (own // 1000 if own >= 1000 else own)
                assert annotation['iscrowd'] == (own < 1000)
                rows, columns = np.nonzero(mask)
                left, top = columns.min(), rows.min()
                assert annotation['bbox'] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
                assert annotation['area'] == mask.sum()
                covered += mask
            assert (covered == np.isin(frame.label_ids, list(labels.CATEGORIES))).all()

    def test_sky_has_no_depth_and_the_ground_has_the_planes(self):
        numbers = Numbers(0, 0, 3)
        scene = make_scene(numbers, 256, 128, 0.5)
        frame = render(0, 0, 3, 256, 128, 0.5)

        assert not frame.depth[frame.label_ids == labels.SKY].any()
        rows, columns = np.nonzero(np.isin(frame.label_ids, [labels.ROAD, labels.PAVEMENT, labels.TERRAIN]))
        metres = scene.camera.elevation * scene.camera.focal / (rows + 0.5 - scene.camera.horizon)
        expected = np.where(metres < 65.535, np.rint(metres * 1000), 0)
        assert len(rows) > 5000
        np.testing.assert_allclose(frame.depth[rows, columns], expected, atol=1)

    def test_agrees_with_casting_a_ray_through_every_pixel(self):
        """Labels, instances and depth of a scene, without clipping, culling, windows or an order of drawing."""
        numbers = Numbers(5, 0, 0)
        scene = make_scene(numbers, 64, 32, 0.5)
        things = [
            thing for thing in scene.things if not thing.blobs and not any(face.is_detail for face in thing.faces)
        ]
        assert {labels.BUILDING, labels.PERSON, labels.POLE} <= {thing.label for thing in things}
        picture = draw(things, Canvas(scene.camera), scene.light)

        nearness, instance = cast(scene.camera, things)
        differs = instance != picture.instance
        assert differs.sum() <= 2  # rays that graze an edge
        np.testing.assert_allclose(picture.nearness[~differs], nearness[~differs], rtol=1e-9)
        table = np.array([0, *(thing.label for thing in things)])
        assert (picture.label == table[picture.instance]).all()
        assert len(np.unique(instance)) > 10

    def test_a_nearer_thing_hides_a_farther_one_in_any_order(self):
        scene = make_scene(Numbers(1, 0, 0), 128, 64, 1.0)
        one, other = (draw(scene.things[::order], Canvas(scene.camera), scene.light) for order in (1, -1))
        np.testing.assert_array_equal(one.nearness, other.nearness)
        np.testing.assert_array_equal(one.instance, np.where(other.instance, len(scene.things) + 1 - other.instance, 0))
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.colour, other.colour)

    def test_an_empty_street(self):
        scene = make_scene(Numbers(1, 0, 0), 64, 32, 0.5)
        picture = draw([], Canvas(scene.camera), scene.light)
        assert not picture.instance.any()
        assert not picture.nearness.any()


def cast(camera: Camera, things: list) -> tuple[np.ndarray, np.ndarray]:
    """Intersect each pixel's ray with each face in the street's coordinates."""
    rows, columns = np.mgrid[: camera.height, : camera.width]
    right, down = (columns + 0.5 - camera.width / 2) / camera.focal, (rows + 0.5 - camera.horizon) / camera.focal
    cosine, sine = camera.turn
    rays = np.stack([right * cosine - sine, -down, right * sine + cosine], -1)  # one metre deep
    eye = np.array([camera.offset, camera.elevation, 0.0])
    nearness, instance = np.zeros(right.shape), np.zeros(right.shape, int)
    for number, thing in enumerate(things, 1):
        (x, z), origin = thing.forward, np.array([thing.origin[0], 0, thing.origin[1]])
        to_street = np.array([[z, 0, x], [0, 1, 0], [-x, 0, z]])
        for face in thing.faces:
            corners = np.array(face.corners) @ to_street.T + origin
            normal = np.array(normal_of([tuple(corner) for corner in corners]))
            with np.errstate(divide='ignore'):
                depth = ((corners[0] - eye) @ normal) / (rays @ normal)
            places = eye + rays * np.where(np.isfinite(depth), depth, -1)[..., None]
            sides = np.stack(
                [np.cross(b - a, places - a) @ normal for a, b in itertools.pairwise([*corners, corners[0]])]
            )
            inside = ((sides >= 0).all(0) | (sides <= 0).all(0)) & (depth >= 0.4)
            with np.errstate(divide='ignore'):
                inside &= 1 / depth > nearness
            nearness[inside], instance[inside] = 1 / depth[inside], number
    return nearness, instance


@pytest.mark.parametrize('share', [0.02, 0.5, 0.97, 1.0])
def test_boxes_and_masks_of_any_shape(share):
    mask = np.random.RandomState(0).rand(7, 5) < share
    ids = np.where(mask, labels.CAR * 1000 + 3, labels.ROAD).astype(np.uint16)
    (annotation,) = Frame(np.zeros((7, 5, 3), np.uint8), ids.astype(np.uint8), ids, ids).annotations()

    rows, columns = np.nonzero(mask)
    sizes = columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()
    assert annotation['bbox'] == [columns.min(), rows.min(), *sizes]
    assert annotation['area'] == mask.sum()
    segmentation = annotation['segmentation']
    assert sum(segmentation['counts']) == mask.size
    assert (coco_masks.decode(coco_masks.frPyObjects(segmentation, *mask.shape)) == mask).all()


class TestDifficulty:
    def test_more_of_everything_and_less_to_see(self):
        easy, hard = (
            [StreetScenes(difficulty=difficulty, seed=4).render('train', index) for index in range(12)]
            for difficulty in ('easy', 'hard')
        )

        def instances(frames):
            return np.mean([(np.unique(frame.instance_ids) >= 1000).sum() for frame in frames])

        def noise(frames):
            return np.mean([np.abs(np.diff(frame.image[-20:].astype(int), n=2, axis=1)).mean() for frame in frames])

        assert instances(hard) > 1.3 * instances(easy)
        assert noise(hard) > 1.5 * noise(easy)

    def test_names_are_numbers(self):
        assert StreetScenes(difficulty='hard') == StreetScenes(difficulty=1)
        assert [StreetScenes(difficulty=name).difficulty for name in ('easy', 'medium')] == [0.0, 0.5]


class TestSameBytes:
    def test_on_every_machine(self, folder):
        assert json.loads((folder / 'street_scenes.json').read_text())['digest'] == DIGEST

    def test_with_any_number_of_processes_and_in_any_order(self, folder, tmp_path, monkeypatch):
        here = writing.done_here
        monkeypatch.setattr(writing, 'done_here', lambda work, jobs: here(work, jobs[::-1]))
        alone = StreetScenes(**SMALL).write(tmp_path / 'alone', processes=1)
        three = StreetScenes(**SMALL).write(tmp_path / 'three', processes=3)
        assert digest_of(alone) == digest_of(three) == digest_of(folder)

    def test_other_seeds_splits_and_images_differ(self):
        scenes, other = StreetScenes(**SMALL), StreetScenes(**SMALL, seed=1)
        images = [
            scenes.render('train', 0).image,
            scenes.render('train', 1).image,
            scenes.render('val', 0).image,
            other.render('train', 0).image,
        ]
        for first, second in itertools.combinations(images, 2):
            assert (first != second).mean() > 0.5

    def test_more_images_leave_the_first_ones_as_they_are(self):
        few, many = StreetScenes(**SMALL), StreetScenes(**{**SMALL, 'train': 900})
        assert (few.render('train', 2).image == many.render('train', 2).image).all()

    def test_what_shows_too_little_is_a_group_and_the_picture_stays_as_it_is(self):
        all_of_them, large = StreetScenes(seed=4), StreetScenes(seed=4, smallest=100)
        groups = 0
        for index in range(4):
            frame, other = all_of_them.render('train', index), large.render('train', index)
            np.testing.assert_array_equal(frame.image, other.image)
            np.testing.assert_array_equal(frame.label_ids, other.label_ids)
            counted = [one for one in frame.annotations() if not one['iscrowd'] and one['area'] >= 100]
            kept = [one for one in other.annotations() if not one['iscrowd']]
            assert [one['bbox'] for one in kept] == [one['bbox'] for one in counted]
            groups += sum(one['iscrowd'] for one in other.annotations())
        assert groups > 4


class TestLayouts:
    def test_files_hold_what_was_rendered(self, folder):
        scenes = StreetScenes(**SMALL)
        for split, index in (('train', 0), ('train', 2), ('val', 1)):
            frame = scenes.render(split, index)
            for kind, image in (
                ('leftImg8bit', frame.image),
                ('labelIds', frame.label_ids),
                ('labelTrainIds', frame.train_ids),
                ('instanceIds', frame.instance_ids),
                ('depth', frame.depth),
            ):
                np.testing.assert_array_equal(read(folder, kind, split, index), image)

    def test_nothing_else_lies_there(self, folder):
        files = [path for path in folder.rglob('*') if path.is_file()]
        assert len(files) == 5 * 5 + 2 + 1
        assert sorted(path.name for path in folder.iterdir()) == [
            'annotations', 'depth', 'gtFine', 'leftImg8bit', 'street_scenes.json',
        ]  # fmt: skip

    def test_coco_api_reads_boxes_and_masks(self, folder, capsys):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            coco = COCO(folder / 'annotations' / 'instances_train.json')
        assert len(coco.imgs) == SMALL['train']
        assert len(coco.anns) > 5
        for annotation in coco.anns.values():
            ids = read(folder, 'instanceIds', 'train', annotation['image_id'])
            mask = coco.annToMask(annotation).astype(bool)
            assert (mask == (ids == ids[mask][0])).all()
        assert all((folder / 'leftImg8bit' / 'train' / image['file_name']).is_file() for image in coco.imgs.values())

    @pytest.mark.parametrize('task', ['detection', 'segmentation', 'depth'])
    @pytest.mark.parametrize('part', ['train', 'val', 'test'])
    def test_stock_datasets_read_it_without_a_warning(self, folder, task, part, caplog):
        config = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / f'street_scenes_{task}.py')
        dataset = config[f'{part}_dataloader'].dataset
        dataset.data_root = f'{folder}/'
        scope = 'mmdet' if task == 'detection' else 'mmseg'
        with DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings():
            warnings.simplefilter('error')
            images = DATASETS.build(dataset)
            samples = [images[index] for index in range(len(images))]
        assert dataset.type in ('CocoDataset', 'CityscapesDataset', 'NYUDataset')
        assert len(images) == SMALL['train' if part == 'train' else 'val']
        assert not [record for record in caplog.records if record.levelname in ('WARNING', 'ERROR')]
        for sample in samples:
            assert {'detection': _boxes, 'segmentation': _classes, 'depth': _depths}[task](sample)

    def test_mmdets_cityscapes_reads_it_too(self, folder):
        from mmdet.datasets import CityscapesDataset

        images = CityscapesDataset(
            ann_file='annotations/instances_train.json',
            data_root=str(folder),
            data_prefix=dict(img='leftImg8bit/train/'),
            filter_cfg=dict(filter_empty_gt=False),
        )
        assert len(images) == SMALL['train']
        assert all(instance['bbox_label'] in range(8) for image in images for instance in image['instances'])


def _boxes(sample) -> bool:
    instances = sample['data_samples'].gt_instances
    return len(instances.bboxes) > 0 and bool((instances.labels < 8).all())


def _classes(sample) -> bool:
    found = set(sample['data_samples'].gt_sem_seg.data.unique().tolist())
    return {0, 2} <= found <= {*range(19), 255}


def _depths(sample) -> bool:
    metres = sample['data_samples'].gt_depth_map.data
    return 1 < float(metres[metres > 0].median()) < 60 and float(metres.max()) <= 65.536


class TestInterruption:
    SCENES = StreetScenes(**SMALL)

    def test_goes_on_where_it_stopped(self, folder, tmp_path, monkeypatch):
        written = []
        write_image = StreetScenes._write_image

        def stop_at_the_third(self, partial, split, index):
            if len(written) == 2:
                raise KeyboardInterrupt
            write_image(self, partial, split, index)
            written.append((split, index))

        monkeypatch.setattr(StreetScenes, '_write_image', stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            self.SCENES.write(tmp_path / 'scenes', processes=1)
        assert not (tmp_path / 'scenes').exists()
        assert [path.name for path in tmp_path.iterdir()] == ['scenes.partial']

        monkeypatch.setattr(
            StreetScenes,
            '_write_image',
            lambda self, partial, *job: (written.append(job), write_image(self, partial, *job)),
        )
        self.SCENES.write(tmp_path / 'scenes', processes=1)
        assert written == [('train', 0), ('train', 1), ('train', 2), ('val', 0), ('val', 1)]
        assert digest_of(tmp_path / 'scenes') == digest_of(folder)
        assert [path.name for path in tmp_path.iterdir()] == ['scenes']

    def test_a_file_is_never_half_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Path, 'replace', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writing._write(tmp_path / 'a' / 'b.png', b'1234')
        assert not list((tmp_path / 'a').iterdir())

    def test_killed_at_any_moment(self, folder, tmp_path):
        process = multiprocessing.get_context('fork').Process(target=self.SCENES.write, args=(tmp_path / 'scenes', 2))
        process.start()
        while not list(tmp_path.glob('scenes.partial/.parts/*.json')) and process.is_alive():
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL

        self.SCENES.write(tmp_path / 'scenes', processes=1)
        assert digest_of(tmp_path / 'scenes') == digest_of(folder)

    def test_killed_in_the_middle_of_a_file(self, folder, tmp_path, monkeypatch):
        """What a killed process had begun to write is not in the finished folder."""
        with monkeypatch.context() as patch:
            patch.setattr(StreetScenes, '_finish', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                self.SCENES.write(tmp_path / 'scenes', processes=1)
        half = next(tmp_path.rglob('*_depth.png')).with_suffix('.png.123.tmp')
        half.write_bytes(b'half')

        self.SCENES.write(tmp_path / 'scenes', processes=1)
        assert not list((tmp_path / 'scenes').rglob('*.tmp'))
        assert digest_of(tmp_path / 'scenes') == digest_of(folder)

    @pytest.mark.parametrize('name', ['instances_train.json', 'instances_val.json', 'street_scenes.json', 'scenes'])
    def test_cut_off_at_the_end(self, folder, tmp_path, monkeypatch, name):
        """Before the annotations, the manifest, or the last renaming."""

        def stop_at(move):
            def stop(path, target):
                if Path(target).name == name:
                    raise KeyboardInterrupt
                return move(path, target)

            return stop

        with monkeypatch.context() as patch:
            for move in ('replace', 'rename'):
                patch.setattr(Path, move, stop_at(getattr(Path, move)))
            with pytest.raises(KeyboardInterrupt):
                self.SCENES.write(tmp_path / 'scenes', processes=1)
        assert not (tmp_path / 'scenes').exists()
        self.SCENES.write(tmp_path / 'scenes', processes=1)
        assert digest_of(tmp_path / 'scenes') == digest_of(folder)

    @pytest.mark.parametrize('change, other', [('train', 1), ('seed', 9)])
    def test_images_of_other_settings_are_not_thrown_away(self, tmp_path, monkeypatch, change, other):
        begun = StreetScenes(**{**SMALL, 'val': 1})
        with monkeypatch.context() as patch:
            patch.setattr(StreetScenes, '_finish', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                begun.write(tmp_path / 'scenes', processes=1)
        before = digest_of(tmp_path)
        mistyped = dataclasses.replace(begun, **{change: other})
        differing = rf'\({change} {getattr(begun, change)} instead of {other}\)'
        with pytest.raises(
            ValueError, match=rf'scenes.partial holds street scenes of other settings {differing}: delete it'
        ):
            mistyped.write(tmp_path / 'scenes', processes=1)
        assert digest_of(tmp_path) == before
        assert len(list((tmp_path / 'scenes.partial').rglob('*_leftImg8bit.png'))) == 4

    def test_other_settings_start_afresh_where_no_image_was_written(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(StreetScenes, '_write_image', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                StreetScenes(**SMALL, seed=9).write(tmp_path / 'scenes', processes=1)
        self.SCENES.write(tmp_path / 'scenes', processes=1)
        np.testing.assert_array_equal(
            read(tmp_path / 'scenes', 'labelIds', 'train', 0), self.SCENES.render('train', 0).label_ids
        )

    def test_what_is_there_is_left_alone(self, folder):
        before = {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
        assert self.SCENES.write(folder) == folder
        assert {path: path.stat().st_mtime_ns for path in folder.rglob('*')} == before


class TestBadInput:
    @pytest.mark.parametrize(
        'wrong, sentence',
        [
            (dict(train=0), 'train must be an integer of at least 1, got 0'),
            (dict(val=0), 'val must be an integer of at least 1, got 0'),
            (dict(width=8), 'width must be an integer of at least 64, got 8'),
            (dict(height=31), 'height must be an integer of at least 32, got 31'),
            (dict(seed=-1), 'seed must be an integer of at least 0, got -1'),
            (
                dict(difficulty='extreme'),
                "difficulty must be easy, medium, hard, or a number from 0 to 1, got 'extreme'",
            ),
            (dict(difficulty=1.5), 'difficulty must be easy, medium, hard, or a number from 0 to 1, got 1.5'),
            (dict(difficulty=float('nan')), 'a number from 0 to 1, got nan'),
        ],
    )
    def test_settings(self, wrong, sentence):
        with pytest.raises(ValueError, match=sentence):
            StreetScenes(**wrong)

    def test_scenes_of_other_settings(self, folder):
        with pytest.raises(
            ValueError, match=r'holds street scenes of other settings \(seed 0 instead of 3\): delete it'
        ):
            StreetScenes(**SMALL, seed=3).write(folder)

    def test_a_folder_of_something_else(self, tmp_path):
        (tmp_path / 'scenes').mkdir()
        (tmp_path / 'scenes' / 'mine.txt').write_text('mine')
        with pytest.raises(ValueError, match='is in the way and was not generated here'):
            StreetScenes(**SMALL).write(tmp_path / 'scenes')
        assert (tmp_path / 'scenes' / 'mine.txt').read_text() == 'mine'

    def test_a_partial_folder_of_something_else(self, tmp_path):
        (tmp_path / 'scenes.partial').mkdir()
        (tmp_path / 'scenes.partial' / 'mine.txt').write_text('mine')
        with pytest.raises(ValueError, match=r'scenes.partial is in the way and was not generated here'):
            StreetScenes(**SMALL).write(tmp_path / 'scenes')
        assert (tmp_path / 'scenes.partial' / 'mine.txt').exists()

    def test_a_folder_that_cannot_be_written_to(self, tmp_path):
        (tmp_path / 'file').write_text('')
        with pytest.raises(OSError, match='cannot write to .*file: Not a directory; choose another folder'):
            StreetScenes(**SMALL).write(tmp_path / 'file' / 'scenes')

    @pytest.mark.parametrize('processes', [1, 2])
    def test_a_full_disk(self, tmp_path, monkeypatch, processes):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(StreetScenes, '_write_image', full)
            with pytest.raises(OSError, match='no space left in .*: free some and run the same command again'):
                StreetScenes(**SMALL).write(tmp_path / 'scenes', processes=processes)
        assert not (tmp_path / 'scenes').exists()
        assert StreetScenes(**SMALL).write(tmp_path / 'scenes', processes=1).is_dir()

    def test_a_process_that_is_killed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(StreetScenes, '_write_image', lambda *_: os._exit(9))
        with pytest.raises(RuntimeError, match='a process was killed .out of memory.*: run the same command again'):
            StreetScenes(**SMALL).write(tmp_path / 'scenes', processes=2)
        assert not (tmp_path / 'scenes').exists()


class TestScript:
    @pytest.fixture
    def call(self, monkeypatch, capsys):
        def run(*arguments: object) -> str:
            monkeypatch.setattr(sys, 'argv', ['make_street_scenes.py', *map(str, arguments)])
            runpy.run_path(str(ROOT / 'tools' / 'make_street_scenes.py'), run_name='__main__')
            return capsys.readouterr().out

        return run

    def test_it_writes_the_same(self, folder, tmp_path, call):
        output = call(tmp_path / 'scenes', '--train', 3, '--val', 2, '--size', 96, 48, '--difficulty', '0.5')
        assert output == f'5 street scenes are in {tmp_path / "scenes"}\n'
        assert digest_of(tmp_path / 'scenes') == digest_of(folder)

    def test_it_says_what_is_wrong_in_one_line(self, folder, tmp_path, call, capsys):
        with pytest.raises(SystemExit, match='2'):
            call(tmp_path / 'scenes', '--train', 0)
        assert 'argument --train: must be at least 1, got 0' in capsys.readouterr().err
        with pytest.raises(SystemExit, match='^error: .*holds street scenes of other settings'):
            call(folder, '--difficulty', 'hard')

    def test_interrupted_it_says_how_to_go_on(self, tmp_path, call, monkeypatch):
        monkeypatch.setattr(StreetScenes, '_write_image', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit, match='interrupted: the same command goes on from here'):
            call(tmp_path / 'scenes', '--processes', 1)

    def test_a_bar_shows_how_far_it_is(self, tmp_path, capsys):
        StreetScenes(**SMALL).write(tmp_path / 'scenes', processes=1, progress=True)
        assert '5/5' in capsys.readouterr().err
