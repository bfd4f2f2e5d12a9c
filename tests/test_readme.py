"""README.md and the quick start, done to the letter on a handful of toy images in COCO's layout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.hub import get_config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_torchvision_models
from PIL import Image

from .helpers.processes import PATIENCE

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
QUICK_START = (ROOT / 'docs' / 'quick-start.md').read_text()

STOCK_TEST = 'python "$(python -c'

# The schedule and the image size of a toy: the only things that differ from what the README says.
TOY = """
small = dict(type='Resize', scale=(64, 64), keep_ratio=True)
load, annotate = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)
meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=[load, annotate, small, dict(type='PackDetInputs')]))
test_dataloader = val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=[load, small, annotate, dict(type='PackDetInputs', meta_keys=meta)]))
train_cfg = dict(val_interval=12)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', README + QUICK_START, flags=re.DOTALL)


def commands() -> list[str]:
    lines = '\n'.join(blocks('bash')).replace('\\\n', ' ').splitlines()
    return [line.strip() for line in lines if line.strip()]


def command(start: str) -> str:
    """Return the one command of the two pages that begins like this."""
    found = sorted({line for line in commands() if line.startswith(start)})
    assert len(found) == 1, f'{start!r}: {found}'
    return found[0]


def command_alone(line: str) -> str:
    """Return a command that stands there just so, without options."""
    assert line in commands()
    return line


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    """A folder that looks like a clone, with toy data, a teacher, and the README's files beside ``configs/``."""
    root = tmp_path_factory.mktemp('clone')
    for name in ('configs', 'tools', 'kddense', 'setup.cfg', 'Makefile'):
        (root / name).symlink_to(ROOT / name)
    _make_coco(root / 'data' / 'coco')
    config = next(block for block in blocks('python') if '_base_ = [' in block)
    losses = next(block for block in blocks('python') if 'register_module' in block)
    (root / 'my_detector.py').write_text(f"{config}{TOY}default_hooks['checkpoint'] = dict(interval=12)\n")
    _make_command(root / 'bin' / 'kddense')
    (root / 'my_losses.py').write_text(losses)
    base = re.search(r"`(_base_ = '.*?')`", QUICK_START)
    assert base is not None
    (root / 'my_student.py').write_text(base[1] + TOY)
    _save_untrained('mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', root / 'teacher.pth')
    _put_backbone_into_the_cache(root / 'torch')
    return root


def _make_coco(root: Path) -> None:
    random = np.random.RandomState(0)
    (root / 'annotations').mkdir(parents=True)
    classes = CocoDataset.METAINFO['classes']
    categories = [dict(id=index + 1, name=name) for index, name in enumerate(classes)]
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        images, annotations = [], []
        for index in range(2):
            name = f'{index}.png'
            Image.fromarray(random.randint(0, 255, (64, 64, 3), dtype=np.uint8)).save(root / split / name)
            images.append(dict(id=index, file_name=name, height=64, width=64))
            box = dict(bbox=[8, 8, 40, 40], area=1600, iscrowd=0, segmentation=[])
            annotations.append(dict(id=index + 1, image_id=index, category_id=1 + 2 * index, **box))
        contents = dict(images=images, annotations=annotations, categories=categories)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(contents))


def _make_command(path: Path) -> None:
    """The console command, of whatever interpreter is ``python``: what an installation makes is tested elsewhere."""
    path.parent.mkdir()
    path.write_text('#!/bin/sh\nexec python -m kddense "$@"\n')
    path.chmod(0o755)


def _save_untrained(config: str, path: Path) -> None:
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.save(MODELS.build(get_config(config).model).state_dict(), path)


def _put_backbone_into_the_cache(home: Path) -> None:
    """The student's config starts from ImageNet weights, which a test has no business downloading."""
    from torchvision.models import resnet50

    address = get_torchvision_models()['resnet50']
    (home / 'hub' / 'checkpoints').mkdir(parents=True)
    torch.save(resnet50().state_dict(), home / 'hub' / 'checkpoints' / Path(address).name)


@pytest.fixture(scope='module')
def run(clone, python):
    """Run a line of the README; ``python`` in it is the interpreter that has imported OpenMMLab before, unless told."""

    def run(line: str, python: str = python) -> str:
        path = f'{Path(python).parent}:{clone / "bin"}:{os.environ["PATH"]}'
        environment = {**os.environ, 'PATH': path, 'TORCH_HOME': str(clone / 'torch'), 'OMP_NUM_THREADS': '1'}
        command = ['bash', '-c', line]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope='module')
def trained(clone, run) -> Path:
    log = run(command_alone('kddense train my_detector.py'), sys.executable)
    assert 'distill.roi.loss_cls' in log
    return clone / 'work_dirs' / 'my_detector' / 'epoch_12.pth'


def test_train_in_mixed_precision(clone, run):
    # A step in bfloat16 takes half a minute on a processor without instructions for it, unless it is one of few boxes.
    few = 'train_cfg.max_epochs=1 train_cfg.val_interval=2 model.student.train_cfg.rcnn.sampler.num=16'
    line = command('kddense train my_detector.py --amp --auto-scale-lr')
    log = run(f'{line} {few} work_dir=work_dirs/amp')
    assert 'Scaling the original LR by 0.25' in log
    assert 'distill.roi.loss_cls' in log


def score(log: str) -> str:
    return re.findall(r'coco/bbox_mAP: (\S+)', log)[-1]


def test_train_then_resume(clone, trained, run):
    assert trained.exists()
    assert 'resumed epoch: 12' in run(command('kddense train my_detector.py --resume'))


def test_both_ways_of_testing_agree(clone, trained, run):
    # Hardly trained, it is sure of nothing: keep what it is unsure of, so that there is a score to compare.
    unsure = '--cfg-options model.{}test_cfg.rcnn.score_thr=0'
    stock = run(f'{command(STOCK_TEST)} {unsure.format("")}')
    ours = run(f'{command("kddense test my_detector.py")} {unsure.format("student.")}')
    assert score(stock) == score(ours)


def test_the_student_is_a_plain_detector(clone, trained, run):
    lines = next(block for block in blocks('python') if 'init_detector' in block)
    Image.new('RGB', (64, 64)).save(clone / 'street.jpg')
    check = "import sys\nprint(type(result).__name__, 'kddense' in sys.modules)\n"
    (clone / 'use.py').write_text(f'{lines}\n{check}')
    assert 'DetDataSample False' in run('python use.py')


def test_your_own_loss(clone, run):
    lines = next(block for block in blocks('python') if "'kddense.SmoothHintLoss'" in block)
    (clone / 'mine.py').write_text("_base_ = './my_detector.py'\n" + lines)
    options = 'train_cfg.max_epochs=1 train_cfg.val_interval=2'
    log = run(f'PYTHONPATH=. kddense train mine.py --cfg-options {options} default_hooks.logger.interval=1')
    assert 'distill.smooth.loss' in log


def test_the_segmentor_builds_with_two_optimisers(clone, monkeypatch):
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import DefaultScope

    lines = next(block for block in blocks('python') if 'joint_optim_wrapper' in block)
    (clone / 'my_segmentor.py').write_text(lines)
    config = Config.fromfile(clone / 'my_segmentor.py')
    config.model.teacher.checkpoint = None
    # Without a checkpoint the teacher would begin with weights of its backbone, from the network.
    monkeypatch.setattr('kddense.teachers.frozen.pretrained_in', lambda model: False)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model)
        optimizers = build_optim_wrapper(model, config.optim_wrapper)

    assert list(model.objectives) == ['pixel', 'pair', 'holistic']
    assert list(optimizers.keys()) == ['student', 'holistic']


def test_dist_train_starts_one_process_a_gpu(clone, tmp_path, run):
    (tmp_path / 'torchrun').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'torchrun').chmod(0o755)
    line = command('bash tools/dist_train.sh')
    said = run(f'export PATH={tmp_path}:$PATH; {line}')
    assert '--nproc_per_node 8' in said
    assert 'tools/train.py my_detector.py --launcher pytorch' in said


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_both_pages_show_the_same_lines():
    (lines,) = {block for block in blocks('python') if 'recipes/chen2017.py' in block}
    assert lines in README


def test_the_doctor_finds_nothing_wrong(run):
    assert 'kddense' in run(command('kddense doctor'))


def test_every_command_is_run_somewhere():
    """Whoever adds a command to the pages adds its test."""
    elsewhere = {
        'make setup': 'CI, before the tests',
        'source .venv/bin/activate': 'nothing to see',
        'kddense distill my_student.py': 'tests/apps/distill',
        'kddense report': 'tests/report',
    }
    here = (
        'kddense doctor',
        'kddense train my_detector.py',
        'kddense test my_detector.py',
        STOCK_TEST,
        'bash tools/dist_train.sh',
    )
    assert [line for line in commands() if not line.startswith((*here, *elsewhere))] == []


def test_links_lead_somewhere():
    for target in re.findall(r'\]\(([^)#]+)\)', README):
        assert target.startswith('https://') or (ROOT / target).exists(), target
