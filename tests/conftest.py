"""Toy images, toy configs and short trainings that tests share."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kddense  # noqa: F401  (before mmcv.ops)

CONFIGS = Path(__file__).parent / 'contracts' / 'configs'
SCRIPTS = Path(__file__).parent / 'contracts' / 'scripts'
SHAPES = ('disc', 'square', 'cross')
SIZE = 64
ADAM = dict(type='Adam', lr=4e-4, betas=(0.9, 0.99))

_numbers = itertools.count()


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Sums in a fixed order, so that runs can be compared bit for bit; and short jobs beside other jobs."""
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'


@pytest.fixture(autouse=True)
def no_run_before():
    """A distiller reads of its run in the newest message hub, which must not be that of an earlier test's training."""
    from mmengine.logging import MessageHub

    MessageHub.get_instance(f'test_{next(_numbers)}')


@pytest.fixture(scope='session', autouse=True)
def unformatted_configs():
    """mmengine formats a run's config for the log and for each checkpoint, which takes longer than a toy training."""
    from mmengine.config import config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, 'FormatCode', lambda text, **_: (text, True))
        yield


def _draw(mask: np.ndarray, shape: str, x: int, y: int, size: int, value: int) -> None:
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    inside = (rows >= y) & (rows < y + size) & (columns >= x) & (columns < x + size)
    off_centre = np.abs(rows - y - (size - 1) / 2), np.abs(columns - x - (size - 1) / 2)
    if shape == 'disc':
        inside &= np.hypot(*off_centre) <= size / 2
    elif shape == 'cross':
        inside &= np.minimum(*off_centre) <= size / 8
    mask[inside] = value


@pytest.fixture(scope='session')
def toy_data(tmp_path_factory) -> Path:
    """Eight images of two or three shapes: COCO boxes in ``boxes.json``, classes in ``masks/``, depth in ``depth/``."""
    from PIL import Image

    root = tmp_path_factory.mktemp('toy')
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
    return root


class ToyTask:
    """A plain student of one model family, the same with a teacher beside it, and ways to train them.

    Args:
        name: ``'detector'``, of two stages, ``'one_stage'``, ``'segmentor'``, ``'depth'``, or ``'structured'``, a segmentor
            taught by a discriminator too, as the detector of one stage and the depth estimator are.
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
        return 'mmdet' if self.name in ('detector', 'one_stage') else 'mmseg'

    def plain(self, **options: Any) -> Any:
        """Return the config of the plain student; ``options`` are of the form ``a__b=...`` for ``a.b=...``."""
        from mmengine.config import Config

        config = Config.fromfile(CONFIGS / f'{self.name}.py')
        for part in ('train', 'val', 'test'):
            config[f'{part}_dataloader'].dataset.data_root = f'{self.data}/'
            if self.package == 'mmdet' and part != 'train':
                config[f'{part}_evaluator'].ann_file = str(self.data / 'boxes.json')
        config.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
        return config

    def _widened(self) -> Any:
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
                pixel=dict(type='kddense.PixelWiseObjective', on='bbox_head'),
                pair=dict(type='kddense.PairWiseObjective', on='bbox_head'),
                holistic=dict(type='kddense.HolisticObjective', on='bbox_head', discriminator=dict(channels=8)),
                soft=dict(type='kddense.DenseHintonObjective', average='positives', weight=2e-3),
                chen=dict(type='kddense.ChenDenseObjective', weight=0.1),
                hint=dict(type='kddense.HintObjective', weight=0.5),
            )
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
            return MODELS.build(model)

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


@pytest.fixture(scope='session')
def detector(toy_data, tmp_path_factory) -> ToyTask:
    """Faster R-CNN, with Chen et al.'s objectives."""
    return ToyTask('detector', toy_data, tmp_path_factory.mktemp('detector'))


@pytest.fixture(scope='session')
def one_stage(toy_data, tmp_path_factory) -> ToyTask:
    """FCOS, with structured distillation, its discriminator included, soft targets and Chen et al.'s objectives."""
    return ToyTask('one_stage', toy_data, tmp_path_factory.mktemp('one_stage'))


@pytest.fixture(scope='session')
def segmentor(toy_data, tmp_path_factory) -> ToyTask:
    """PSPNet, with soft targets and a hint."""
    return ToyTask('segmentor', toy_data, tmp_path_factory.mktemp('segmentor'))


@pytest.fixture(scope='session')
def structured(toy_data, tmp_path_factory) -> ToyTask:
    """PSPNet, with all of structured distillation, its discriminator included, and a hint between channels."""
    return ToyTask('structured', toy_data, tmp_path_factory.mktemp('structured'))


@pytest.fixture(scope='session')
def depth(toy_data, tmp_path_factory) -> ToyTask:
    """A depth estimator, with structured distillation, its discriminator included, attentive imitation and hint."""
    return ToyTask('depth', toy_data, tmp_path_factory.mktemp('depth'))


@pytest.fixture(params=['detector', 'one_stage', 'segmentor', 'structured', 'depth'])
def task(request) -> ToyTask:
    """Each family."""
    return request.getfixturevalue(request.param)


@dataclass(frozen=True)
class StockScript:
    """A script that OpenMMLab's package brought along, such as ``tools/train.py``."""

    package: str
    name: str

    def start(self, *arguments: object, cwd: Path, **options: Any) -> subprocess.Popen:
        """Start it in a process of its own."""
        origin = find_spec(self.package).origin
        script = Path(origin).parent / '.mim' / 'tools' / self.name
        path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get('PYTHONPATH')]))
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': path, 'PYTHONWARNINGS': 'ignore'}
        command = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )

    def run(self, *arguments: object, cwd: Path) -> str:
        """Run it to its end; returns what it printed."""
        process = self.start(*arguments, cwd=cwd)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output


@pytest.fixture(scope='session')
def stock_script() -> type[StockScript]:
    """Stock scripts by package and name: ``stock_script('mmdet', 'train.py').run(...)``."""
    return StockScript


def losses_of(message_hub: Any) -> dict[str, list[float]]:
    """Return every loss by its name in the log, one number per iteration as it was."""
    scalars = message_hub.log_scalars if hasattr(message_hub, 'log_scalars') else message_hub['log_scalars']
    return {
        name.removeprefix('train/'): buffer.data[0].tolist()
        for name, buffer in scalars.items()
        if name.startswith('train/') and 'loss' in name
    }


@pytest.fixture(scope='session')
def logged_losses():
    """The function that reads all losses out of a runner's message hub, or out of that of a checkpoint."""
    return losses_of
