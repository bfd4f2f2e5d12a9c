"""Structured distillation on Cityscapes, as its config has it but small: stock scripts train and evaluate it."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from kddense.compat import load_checkpoint

from .contracts.test_checkpoint import newest_json

CONFIG = Path(__file__).parents[1] / 'configs' / 'skd' / 'skd_r101_r18_pspnet_512x512_cityscapes.py'
CROP = (128, 128)
SCALE = (256, 128)
ITERATIONS = 16
ROAD, BUILDING, SKY, CAR, UNLABELLED = 0, 2, 10, 13, 255
COLOURS = {ROAD: (128, 64, 128), BUILDING: (70, 70, 70), SKY: (70, 130, 180), CAR: (0, 0, 142), UNLABELLED: (0, 0, 0)}


@pytest.fixture(scope='module')
def cityscapes(tmp_path_factory) -> Path:
    """Four streets to train on and two to validate, in the folders and by the names of the official download."""
    root = tmp_path_factory.mktemp('cityscapes')
    random = np.random.RandomState(0)
    for split, city, count in (('train', 'aachen', 3), ('train', 'bochum', 1), ('val', 'frankfurt', 2)):
        for number in range(count):
            labels = street(random)
            colours = np.zeros((*labels.shape, 3))
            for label, colour in COLOURS.items():
                colours[labels == label] = colour
            pixels = colours + random.randint(-20, 20, colours.shape)
            frame = f'{city}_{number:06}_000019'
            for kind, name, image in (
                ('leftImg8bit', 'leftImg8bit', pixels.clip(0, 255)),
                ('gtFine', 'gtFine_labelTrainIds', labels),
            ):
                path = root / kind / split / city / f'{frame}_{name}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(path)
    return root


def street(random: np.random.RandomState) -> np.ndarray:
    """Return labels of 64 x 128 pixels: sky over houses over a road with a car, and the bonnet, which has no label."""
    labels = np.full((64, 128), BUILDING)
    labels[: random.randint(12, 24)] = SKY
    labels[36:] = ROAD
    left = random.randint(0, 90)
    labels[32:46, left : left + 30] = CAR
    labels[58:] = UNLABELLED
    return labels


def narrow(model, width: int):
    """Make a PSPNet narrow, and without weights from the network or batch norms that ask for a GPU."""
    norm = dict(type='BN', requires_grad=True, momentum=0.5)
    model.pretrained = None
    model.data_preprocessor.size = CROP
    model.backbone.update(depth=18, base_channels=width, stem_channels=width, norm_cfg=norm, init_cfg=None)
    model.decode_head.update(in_channels=8 * width, channels=2 * width, norm_cfg=norm)
    model.auxiliary_head.update(in_channels=4 * width, channels=width, norm_cfg=norm)
    return model


def alone(config: Config, model) -> Config:
    """Return the same without distillation, as a user of mmseg has it."""
    ours = ('custom_imports', 'objectives', 'distiller', 'joint_optim_wrapper')
    plain = Config({key: value for key, value in config.items() if key not in ours})
    plain.optim_wrapper = dict(type='OptimWrapper', optimizer=config.optim_wrapper.optimizer)
    plain.model = model
    assert 'kddense' not in json.dumps(plain.to_dict())
    return plain


@dataclass(frozen=True)
class Outcome:
    """What the scripts left behind.

    Attributes:
        config: That of the training.
        student: That of the plain student, whose model is ``student.model``.
        trained: Working directory of the training.
        tested: Working directory of the evaluation.
    """

    config: Config
    student: Config
    trained: Path
    tested: Path

    @property
    def checkpoint(self) -> dict:
        return load_checkpoint(self.trained / f'iter_{ITERATIONS}.pth')


@pytest.fixture(scope='module')
def outcome(cityscapes, stock_script, tmp_path_factory) -> Outcome:
    """Train a few iterations with stock ``train.py``, and evaluate the plain student with stock ``test.py``."""
    folder = tmp_path_factory.mktemp('skd')
    config = small_training(Config.fromfile(CONFIG), cityscapes)

    teacher = alone(config, narrow(copy.deepcopy(config.model.student), width=16))
    teacher.dump(folder / 'teacher.py')
    torch.save(build(teacher.model).state_dict(), folder / 'teacher.pth')
    config.model.teacher.update(config=str(folder / 'teacher.py'), checkpoint=str(folder / 'teacher.pth'))
    config.model.objectives.holistic.discriminator = dict(channels=8)
    for name in ('pixel', 'pair'):
        config.model.objectives[name].weight = 0.1  # this teacher has learned nothing
    narrow(config.model.student, width=8)
    config.dump(folder / 'skd.py')
    student = alone(config, config.model.student)
    student.dump(folder / 'student.py')

    trained, tested = folder / 'trained', folder / 'tested'
    stock_script('mmseg', 'train.py').run(folder / 'skd.py', '--work-dir', trained, cwd=folder)
    checkpoint = trained / f'iter_{ITERATIONS}.pth'
    stock_script('mmseg', 'test.py').run(folder / 'student.py', checkpoint, '--work-dir', tested, cwd=folder)
    return Outcome(config, student, trained, tested)


def small_training(config: Config, data: Path) -> Config:
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert loader.dataset.type == 'CityscapesDataset'
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
        for transform in loader.dataset.pipeline:
            transform.update(
                {key: value for key, value in dict(scale=SCALE, crop_size=CROP).items() if key in transform}
            )
    config.train_dataloader.batch_size = 4
    config.optim_wrapper.optimizer = dict(type='AdamW', lr=0.005)
    config.train_cfg.update(max_iters=ITERATIONS, val_interval=ITERATIONS)
    config.default_hooks.logger.interval = 1
    config.default_hooks.checkpoint.interval = ITERATIONS
    config.randomness = dict(seed=0)
    return config


def build(model):
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(model)


def test_the_stock_test_script_finds_the_miou_of_the_training(outcome):
    own, stock = (newest_json(folder, 'mIoU') for folder in (outcome.trained, outcome.tested))
    metrics = ('aAcc', 'mIoU', 'mAcc')
    assert own['mAcc'] > 30  # one class alone has 25
    assert {name: own[name] for name in metrics} == {name: stock[name] for name in metrics}


def test_its_checkpoint_is_the_plain_students(outcome):
    saved = outcome.checkpoint['state_dict']
    assert list(saved) == list(build(outcome.student.model).state_dict())
    assert not any('discriminator' in key or 'objectives' in key for key in saved)
    assert any('discriminator' in key for key in saved._metadata['']['kddense'])
    assert outcome.checkpoint['optimizer'].keys() == {'student', 'holistic'}


def test_every_loss_is_in_the_log(outcome):
    (log,) = outcome.trained.rglob('scalars.json')
    steps = [line for line in map(json.loads, log.read_text().splitlines()) if 'loss' in line]
    holistic = {f'distill.holistic.{name}' for name in ('loss_student', 'loss_discriminator', 'score_student')}
    single = {f'distill.{name}.loss' for name in outcome.config.model.objectives if name != 'holistic'}
    assert single >= {'distill.pixel.loss', 'distill.pair.loss'}
    assert len(steps) == ITERATIONS
    for step in steps:
        expected = single | holistic | {'distill.holistic.score_teacher', 'decode.loss_ce', 'aux.loss_ce'}
        assert expected <= step.keys()
        assert all(abs(step[name]) < 1e4 for name in expected)
