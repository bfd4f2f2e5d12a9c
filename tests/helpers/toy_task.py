"""Toy images, and a small model of each family with a teacher beside it: what most tests build or train."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools.mask import encode

from kddense.configs import read_recipe

from . import mask_models, tiny, transformers

CONFIGS = Path(__file__).parent / 'configs'
SHAPES = ('disc', 'square', 'cross')
SIZE = 64
ADAM = dict(type='Adam', lr=4e-4, betas=(0.9, 0.99))


def _mask_segmentor(width: int) -> Any:
    layers, channels = tiny.backbone('resnet', width)
    classes = {'num_classes': 4, 'loss_cls.class_weight': [1.0] * 4 + [0.1]}
    head = {**classes, 'in_channels': channels, 'pixel_decoder.encoder.num_layers': 1}
    changes = {f'decode_head.{key}': value for key, value in head.items()}
    config = mask_models.mask_segmentor({**changes, 'data_preprocessor.size': (SIZE, SIZE)})
    config.data_preprocessor.pop('size_divisor')
    config.backbone = layers
    return config


# By the width of the backbone; models of the other tasks stand in their configs.
TINY = {
    'query_detector': lambda width: transformers.detr('deformable', width, {'test_cfg.max_per_img': 20}),
    'mask_detector': lambda width: tiny.mask_rcnn(width=width),
    'mask_segmentor': _mask_segmentor,
}

_numbers = itertools.count()


@functools.cache
def _read(path: Path) -> Config:
    return Config.fromfile(path)


def make_toy_data(root: Path) -> None:
    """Draw eight images of two or three shapes: boxes and instances in ``boxes.json``, classes in ``masks/``, ``depth/``."""
    (root / 'images').mkdir()
    (root / 'masks').mkdir()
    (root / 'depth').mkdir()
    numbers = np.random.RandomState(0)
    images, annotations = [], []
    for index in range(8):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        for corner in numbers.permutation(4)[: 2 + index % 2]:
            label = numbers.randint(len(SHAPES))
            size = numbers.randint(18, 28)
            x, y = (int(32 * side + numbers.randint(0, 32 - size)) for side in divmod(corner, 2))
            _draw(mask, SHAPES[label], x, y, size, label + 1)
            box = dict(bbox=[x, y, int(size), int(size)], area=int(size**2), iscrowd=0)
            box['segmentation'] = _run_lengths(mask, x, y, size)
            annotations.append(dict(id=len(annotations) + 1, image_id=index, category_id=label, **box))
        colours = np.array([[60, 60, 60], [220, 40, 40], [40, 220, 40], [40, 40, 220]])
        pixels = colours[mask] + numbers.randint(-20, 20, (SIZE, SIZE, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / 'images' / f'{index}.png')
        Image.fromarray(mask).save(root / 'masks' / f'{index}.png')
        millimetres = np.where(mask > 0, 1500 * mask.astype(np.uint16), 7000 + 10 * np.arange(SIZE)[:, None])
        millimetres[:2] = 0  # not known
        Image.fromarray(millimetres.astype(np.uint16)).save(root / 'depth' / f'{index}.png')
        images.append(dict(id=index, file_name=f'{index}.png', height=SIZE, width=SIZE))
    categories = [dict(id=label, name=name) for label, name in enumerate(SHAPES)]
    (root / 'boxes.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def _draw(mask: np.ndarray, shape: str, x: int, y: int, size: int, value: int) -> None:
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    inside = (rows >= y) & (rows < y + size) & (columns >= x) & (columns < x + size)
    off_centre = np.abs(rows - y - (size - 1) / 2), np.abs(columns - x - (size - 1) / 2)
    if shape == 'disc':
        inside &= np.hypot(*off_centre) <= size / 2
    elif shape == 'cross':
        inside &= np.minimum(*off_centre) <= size / 8
    mask[inside] = value


def _run_lengths(mask: np.ndarray, x: int, y: int, size: int) -> dict[str, Any]:
    """Return what is drawn in a box as COCO writes masks of instances."""
    drawn = np.zeros_like(mask, order='F')
    drawn[y : y + size, x : x + size] = mask[y : y + size, x : x + size] > 0
    made = encode(drawn)
    return dict(size=made['size'], counts=made['counts'].decode())


class ToyTask:
    """A plain student of one model family, the same with a teacher beside it, and ways to train them.

    Args:
        name: ``'detector'``, of two stages, ``'one_stage'``, ``'segmentor'``, ``'depth'``, or ``'structured'``, a segmentor
            taught by a discriminator too, as the detector of one stage and the depth estimator are; ``'query_detector'``,
            a Deformable DETR, ``'mask_detector'``, a Mask R-CNN, ``'mask_segmentor'``, a Mask2Former.
        data: Folder of the toy data.
        folder: Where to keep the teacher.
    """

    def __init__(self, name: str, data: Path, folder: Path) -> None:
        self.name = name
        self.data = data
        config = self._widened()
        config.dump(folder / 'teacher.py')
        torch.manual_seed(1)
        torch.save(self.build(config.model).state_dict(), folder / 'teacher.pth')
        self.teacher = dict(config=str(folder / 'teacher.py'), checkpoint=str(folder / 'teacher.pth'))

    @property
    def package(self) -> str:
        """The package of OpenMMLab that the task belongs to."""
        return 'mmdet' if self.name.endswith('detector') or self.name == 'one_stage' else 'mmseg'

    def plain(self, **options: Any) -> Any:
        """Return the config of the plain student; ``options`` are of the form ``a__b=...`` for ``a.b=...``."""
        config = copy.deepcopy(_read(CONFIGS / f'{self.name}.py'))
        if self.name in TINY:
            config.model = TINY[self.name](8)
        for part in ('train', 'val', 'test'):
            config[f'{part}_dataloader'].dataset.data_root = f'{self.data}/'
            if self.package == 'mmdet' and part != 'train':
                config[f'{part}_evaluator'].ann_file = str(self.data / 'boxes.json')
        config.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        return config

    def _widened(self) -> Any:
        if self.name in TINY:
            config = self.plain()
            config.model = TINY[self.name](16)
            return config
        config = self.plain(model__backbone__base_channels=16)
        if self.name == 'detector':
            config.model.neck.in_channels = [16, 32, 64, 128]
            config.model.neck.out_channels = 24
            config.model.rpn_head.update(in_channels=24, feat_channels=24)
            config.model.roi_head.bbox_roi_extractor.out_channels = 24
            config.model.roi_head.bbox_head.in_channels = 24
        elif self.name == 'one_stage':
            config.model.neck.update(in_channels=[16, 32, 64, 128], out_channels=24)
            config.model.bbox_head.update(in_channels=24, feat_channels=24)
        elif self.name == 'depth':
            config.model.decode_head.decoder.update(in_channels=[16, 32, 64, 128], channels=24)
        else:
            config.model.decode_head.update(in_channels=128, channels=24)
            config.model.auxiliary_head.in_channels = 64
        return config

    @property
    def objectives(self) -> dict[str, dict]:
        """All that a recipe for this family holds, a learned connector included."""
        if self.name == 'detector':
            return dict(
                rpn=dict(type='kddense.ChenRPNObjective'),
                roi=dict(type='kddense.ChenRoIObjective'),
                hint=dict(type='kddense.HintObjective', weight=0.5),
            )
        if self.name == 'one_stage':
            return dict(
                pixel=dict(type='kddense.PixelWiseObjective', on='bbox_head', weight=1.0),
                pair=dict(type='kddense.PairWiseObjective', on='bbox_head'),
                holistic=dict(type='kddense.HolisticObjective', on='bbox_head', discriminator=dict(channels=8)),
                soft=dict(type='kddense.DenseHintonObjective', average='positives', weight=2e-3),
                chen=dict(type='kddense.ChenDenseObjective', weight=0.1),
                hint=dict(type='kddense.HintObjective', weight=0.5),
            )
        if self.name in TINY:
            recipes = dict(
                query_detector=('kd_detr', 'detrdistill'), mask_detector=('masks',), mask_segmentor=('mask_queries',)
            )
            parts = [read_recipe(recipe).objectives.to_dict() for recipe in recipes[self.name]]
            hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1], weight=0.5)
            return {**functools.reduce(operator.or_, parts), 'hint': hint}
        if self.name == 'structured':
            return dict(
                pixel=dict(type='kddense.PixelWiseObjective'),
                pair=dict(type='kddense.PairWiseObjective'),
                holistic=dict(type='kddense.HolisticObjective', discriminator=dict(channels=8)),
                cwd=dict(type='kddense.CWDObjective', compare='feature'),
            )
        if self.name == 'depth':
            return dict(
                pair=dict(type='kddense.PairWiseObjective'),
                holistic=dict(type='kddense.HolisticObjective', discriminator=dict(channels=8)),
                imitation=dict(type='kddense.AttentiveDepthObjective', error_range=5.0),
                hint=dict(type='kddense.AttentiveDepthHintObjective', clamp=False),
            )
        return dict(
            soft=dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss')),
            hint=dict(type='kddense.FeatureObjective', tap='backbone', levels=[3], weight=0.5),
        )

    def distilled(self, objectives: dict | None = None, distiller: dict | None = None, **options: Any) -> Any:
        """Return the config of the same training with a teacher, as a user would write it."""
        config = self.plain(**options)
        config.custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
        config.model = dict(
            type='kddense.Distiller',
            student=config.model,
            teacher=self.teacher,
            objectives=self.objectives if objectives is None else objectives,
            **(distiller or {}),
        )
        adversaries = [
            name
            for name, objective in config.model.objectives.items()
            if objective.type == 'kddense.HolisticObjective' and objective.get('weight') != 0
        ]
        if adversaries:
            config.optim_wrapper.constructor = 'kddense.JointOptimWrapperConstructor'
            config.optim_wrapper.objectives = {name: dict(optimizer=ADAM) for name in adversaries}
        return config

    def build(self, model: dict) -> Any:
        """Build a model in the scope of the task's package."""
        from mmengine.registry import MODELS, DefaultScope

        self._import()
        with DefaultScope.overwrite_default_scope(self.package):
            built = MODELS.build(model)
        transformers.draw_levels(getattr(built, 'student', built))
        return built

    def _import(self) -> None:
        from mmengine.registry import init_default_scope

        if self.package == 'mmdet':
            from mmdet.utils import register_all_modules
        else:
            from mmseg.utils import register_all_modules
        register_all_modules(init_default_scope=False)
        init_default_scope(self.package)

    def runner(self, config: Any, work_dir: Path) -> Any:
        """Return a runner that shares nothing with earlier runners of this process."""
        from mmengine.runner import Runner

        config.work_dir = str(work_dir)
        config.log_level = 'ERROR'
        config.experiment_name = f'toy_{next(_numbers)}'
        config.visualizer.name = f'toy_{next(_numbers)}'  # mmengine would go on with that of an earlier run
        return Runner.from_cfg(config)

    def train(self, config: Any, work_dir: Path) -> Any:
        """Train in this process; returns the runner."""
        runner = self.runner(config, work_dir)
        runner.train()
        return runner

    def batch(self, indices: list[int]) -> dict:
        """Return a batch of the training images as a data loader would, without random transforms."""
        from mmengine.dataset import pseudo_collate
        from mmengine.registry import DATASETS, DefaultScope

        config = self.plain()
        dataset = config.val_dataloader.dataset
        dataset.pop('test_mode', None)
        self._import()
        with DefaultScope.overwrite_default_scope(self.package):
            images = DATASETS.build(dataset)
        return pseudo_collate([images[index] for index in indices])


def losses_of(message_hub: Any) -> dict[str, list[float]]:
    """Return every loss by its name in the log, one number per iteration as it was."""
    scalars = message_hub.log_scalars if hasattr(message_hub, 'log_scalars') else message_hub['log_scalars']
    return {
        name.removeprefix('train/'): buffer.data[0].tolist()
        for name, buffer in scalars.items()
        if name.startswith('train/') and 'loss' in name
    }
