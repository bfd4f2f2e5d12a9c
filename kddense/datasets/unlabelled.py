"""Images that nobody labelled, from folders, patterns, lists, videos and COCO files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.structures import InstanceData

from kddense.errors import ConfigError
from kddense.registry import DATASETS

from .image_files import SUFFIXES, find_files, read_image

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm')


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Images for :class:`kddense.UnlabelledImagesHook`, of any family; or for a training that sees no labels at all.

    Its data samples are marked as unlabelled. As the ``dataset`` of a ``train_dataloader`` it makes a training in which
    objectives alone teach: the student's own losses are zeros.

    What cannot be read is named in the log, counted, and another image is taken for it.

    Args:
        images: A folder, searched with all folders in it; a pattern such as ``'frames/*/*.png'``; a ``.txt`` list of paths
            relative to it; a video; or a COCO file, whose annotations are not looked at. Or a list of these. Folders,
            patterns and lists may hold videos too.
        root: The folder of a COCO file's images; by default that of the file.
        every: Of a video one frame of so many.
        pipeline: Steps on ``results['img']``; one that loads images from files is left out, as they are loaded here.
        max_refetch: How many other images are tried for one that cannot be read.
        lazy_init: See mmengine's ``BaseDataset``.
        serialize_data: See there.

    Raises:
        FileNotFoundError: If one of ``images`` names none.
        ValueError: If ``every`` is below 1, or a ``.json`` file is no COCO file; when images are taken, if none can be read.

    Attributes:
        unreadable: Names of what could not be read so far, in this process.
    """

    def __init__(
        self,
        images: str | Sequence[str],
        root: str | None = None,
        every: int = 1,
        pipeline: Sequence[Mapping[str, Any] | Callable] | None = None,
        max_refetch: int = 1000,
        lazy_init: bool = False,
        serialize_data: bool = False,
    ) -> None:
        if every < 1:
            raise ValueError(f'every must be at least 1, got {every}')
        self.sources = [images] if isinstance(images, str) else list(images)
        self.root = root
        self.every = every
        self.unreadable: set[str] = set()
        self._left_out: set[int] = set()
        steps = [step for step in pipeline or () if not (isinstance(step, Mapping) and _loads(step))]
        super().__init__(pipeline=steps, max_refetch=max_refetch, lazy_init=lazy_init, serialize_data=serialize_data)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return where each image is: ``img_path``, and of a video's the number of its ``frame``."""
        found = [one for source in self.sources for one in self._found(source)]
        return [dict(one, img_id=number) for number, one in enumerate(found)]

    def __getitem__(self, idx: int) -> Any:
        """Return an image after the pipeline; another one, drawn at random, if it cannot be read."""
        if not self._fully_initialized:
            self.full_init()
        for _ in range(self.max_refetch + 1):
            packed = self.prepare_data(idx)
            if packed is not None:
                return packed
            idx = self._rand_another()
        raise ConfigError(
            f': {self.max_refetch + 1} images were tried, and none could be used; {len(self.unreadable)} of {len(self)} '
            'cannot be read',
            'images',
        )

    def prepare_data(self, idx: int) -> Any:
        """Return an image after the pipeline, ``None`` if it cannot be read."""
        results = self.get_data_info(idx)
        image = _frame(results) if 'frame' in results else read_image(Path(results['img_path']))
        if image is None:
            self._note(results)
            self._left_out.add(idx)
            return None
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        packed = self.pipeline(results)
        if isinstance(packed, Mapping) and 'data_samples' in packed:
            mark_unlabelled(packed['data_samples'])
        return packed

    def _rand_another(self) -> int:
        """Return the number of an image that is not known to be unreadable."""
        others = np.setdiff1d(np.arange(len(self)), list(self._left_out))
        if not len(others):
            raise ConfigError(
                f': none of the {len(self)} images can be read, the first is {min(self.unreadable)}', 'images'
            )
        return int(np.random.choice(others))

    def _found(self, source: str) -> list[dict[str, Any]]:
        path = Path(source)
        if path.suffix.lower() in VIDEOS and path.is_file():
            return self._frames(path)
        if path.suffix == '.json':
            folder = Path(self.root) if self.root is not None else path.parent
            return [dict(img_path=str(folder / name)) for name in _names_of_coco(path)]
        found = [one for file in find_files(source, SUFFIXES + VIDEOS) for one in self._of_file(file)]
        if not found:
            raise FileNotFoundError(f"there is no image in '{source}' that can be read")
        return found

    def _of_file(self, file: Path) -> list[dict[str, Any]]:
        if file.suffix.lower() not in VIDEOS:
            return [dict(img_path=str(file))]
        try:
            return self._frames(file)
        except FileNotFoundError:  # one of many
            self._note(dict(img_path=str(file)))
            return []

    def _frames(self, video: Path) -> list[dict[str, Any]]:
        return [dict(img_path=str(video), frame=frame) for frame in range(0, _frames_of(video), self.every)]

    def _note(self, results: Mapping[str, Any]) -> None:
        name = results['img_path'] + (f' (frame {results["frame"]})' if 'frame' in results else '')
        if name not in self.unreadable:
            self.unreadable.add(name)
            text = f'unlabelled image {name} cannot be read and is left out, {len(self.unreadable)} so far'
            print_log(text, logger='current', level=logging.WARNING)


def mark_unlabelled(sample: Any) -> None:
    """Mark a data sample as unlabelled; one of mmdet has no boxes then, which are not the same as an image without any.

    What resizes whole batches with their boxes (``BatchSyncRandomResize``) finds some.
    """
    sample.set_metainfo(dict(unlabelled=True))
    for key in ('gt_instances', 'ignored_instances'):
        if key in sample and 'labels' not in sample.get(key):
            setattr(sample, key, no_boxes())


def no_boxes(device: torch.device | str = 'cpu') -> InstanceData:
    """Return a ground truth of no boxes."""
    boxes = torch.zeros(0, 4, device=device)
    return InstanceData(bboxes=boxes, labels=boxes[:, 0].long())


def _loads(step: Mapping[str, Any]) -> bool:
    return str(step.get('type')).rpartition('.')[2] == 'LoadImageFromFile'


def _names_of_coco(file: Path) -> list[str]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no COCO file '{file}'")
    try:
        names = [one['file_name'] for one in json.loads(file.read_text())['images']]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{file}' is no COCO file: it needs `images`, a list with a `file_name` each") from error
    if not names:
        raise FileNotFoundError(f"there is no image in '{file}': its list of `images` is empty")
    return names


def _frames_of(video: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    try:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()
    if count < 1:
        raise FileNotFoundError(f"'{video}' is no video with frames that OpenCV can read")
    return count


def _frame(results: Mapping[str, Any]) -> np.ndarray | None:
    capture = cv2.VideoCapture(results['img_path'])
    try:
        capture.set(cv2.CAP_PROP_POS_FRAMES, results['frame'])
        is_read, image = capture.read()
    finally:
        capture.release()
    return image if is_read else None
