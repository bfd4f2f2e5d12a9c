"""What a wheel holds is enough: configs, recipes and teachers of kddense, for stock scripts in an empty folder."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from kddense.configs import find_config
from kddense.registry import MODELS

from .helpers.toy_task import SHAPES, make_toy_data

ROOT = Path(__file__).parents[1]
SOURCES = (
    'setup.cfg',
    'setup.py',
    'pyproject.toml',
    'MANIFEST.in',
    'README.md',
    'LICENSE',
    'kddense.pth',
    'model-index.yml',
)
FOLDERS = ('kddense', 'kddense_start', 'configs', 'tools')

DETECTOR = """
_base_ = ['kddense::chen2017/faster-rcnn_r18-w16_fpn_bccd.py', 'kddense::_base_/recipes/chen2017.py']
teacher = dict(config='kddense::chen2017/faster-rcnn_r18-w16_fpn_bccd.py', checkpoint='teacher.pth')
model = dict(student=_base_.model, teacher=teacher, **_base_.distiller)
data = dict(data_root='toy/', ann_file='boxes.json')
train_dataloader = dict(batch_size=4, num_workers=0, dataset=data)
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
"""
SEGMENTOR = """
_base_ = ['kddense::skd/pspnet_r18-w8_camvid.py', 'kddense::_base_/recipes/skd.py']
teacher = dict(config='kddense::skd/pspnet_r18-w8_camvid.py', checkpoint='teacher.pth')
model = dict(student=_base_.model, teacher=teacher, **_base_.distiller)
optim_wrapper = dict(**_base_.joint_optim_wrapper)
data = dict(data_root='toy/', data_prefix=dict(img_path='images', seg_map_path='masks'), img_suffix='.png')
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=data)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
"""
STUDENT = """
_base_ = 'kddense::chen2017/faster-rcnn_r18-w16_fpn_bccd.py'
data = dict(data_root='toy/', ann_file='boxes.json')
train_dataloader = dict(batch_size=4, num_workers=0, dataset=data)
val_dataloader = test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
val_evaluator = test_evaluator = dict(ann_file='toy/boxes.json')
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)
"""
TEACHER = 'kddense::chen2017/faster-rcnn_r18-w16_fpn_bccd.py'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of what the repository holds, so that nothing is left in it."""
    copy = tmp_path_factory.mktemp('sources')
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    command = [
        *pip,
        'wheel',
        '--no-deps',
        '--no-index',
        '--no-build-isolation',
        '--wheel-dir',
        str(copy / 'dist'),
        str(copy),
    ]
    subprocess.run(command, check=True)
    return next((copy / 'dist').glob('*.whl'))


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment that has the wheel, and beside it the packages that are here."""
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / 'bin' / 'python'
    packages = Path(sysconfig.get_path('purelib', vars={'base': str(folder)}))
    (packages / 'beside.pth').write_text(sysconfig.get_path('purelib'))
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check', '--python', str(python)]
    subprocess.run([*pip, 'install', '--no-deps', '--no-index', '--ignore-installed', str(wheel)], check=True)
    return python


@pytest.fixture(scope='module')
def empty(tmp_path_factory) -> Path:
    """A folder with toy images and nothing of the repository."""
    folder = tmp_path_factory.mktemp('empty')
    (folder / 'toy').mkdir()
    make_toy_data(folder / 'toy')
    boxes = folder / 'toy' / 'boxes.json'
    text = boxes.read_text()
    for ours, theirs in zip(SHAPES, ('RBC', 'WBC', 'Platelets'), strict=True):  # the classes that the config names
        text = text.replace(f'"{ours}"', f'"{theirs}"')
    boxes.write_text(text)
    return folder


def save_untrained(text: str, folder: Path) -> None:
    """Save random weights for the teacher that a config names, whose model is the student's."""
    config = find_config(re.search(r"config='(.*?)'", text)[1])
    whole = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(whole.default_scope):
        torch.save(MODELS.build(whole.model).state_dict(), folder / 'teacher.pth')


def call(command: list[object], folder: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**kept, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_it_holds_every_config_and_script(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())

    for folder, pattern in (('configs', '*.py'), ('configs', 'metafile.yml'), ('configs', '*.json'), ('tools', '*')):
        files = [file for file in (ROOT / folder).rglob(pattern) if file.is_file() and '__pycache__' not in file.parts]
        assert files
        assert {f'kddense/.mim/{file.relative_to(ROOT)}' for file in files} <= names
    assert {'kddense.pth', 'kddense/.mim/model-index.yml', 'kddense/report/templates/report.html'} <= names
    assert not [name for name in names if name.startswith(('tests/', 'configs/', 'tools/'))]


@pytest.mark.parametrize('package, text', [('mmdet', DETECTOR), ('mmseg', SEGMENTOR)], ids=['mmdet', 'mmseg'])
def test_stock_scripts_train_in_an_empty_folder(package, text, installed, empty):
    folder = empty / package
    folder.mkdir()
    (folder / 'toy').symlink_to(empty / 'toy')
    (folder / 'mine.py').write_text(text)
    save_untrained(text, folder)
    script = Path(find_spec(package).origin).parent / '.mim' / 'tools' / 'train.py'
    log = call([installed, script, 'mine.py'], folder)

    assert 'loss: nan' not in log
    assert re.search(r'\[2/2\].* distill\.', log), log
    assert (folder / 'work_dirs' / 'mine' / 'last_checkpoint').exists()


def test_one_command_in_an_empty_folder_ends_in_a_report(installed, empty):
    folder = empty / 'one command'
    folder.mkdir()
    (folder / 'toy').symlink_to(empty / 'toy')
    (folder / 'mine.py').write_text(STUDENT)
    save_untrained(f"config='{TEACHER}'", folder)
    command = [installed.with_name('kddense'), 'distill', 'mine.py', '--teacher', TEACHER, 'teacher.pth']
    log = call([*command, '--no-teacher-test'], folder)

    assert re.search(r'\[2/2\].* distill\.', log), log
    page = re.search(r'^the report is (.*)$', log, re.MULTILINE)[1]
    assert 'distilled student' in (folder / page).read_text()


def test_the_command_is_there_and_finds_the_installation_sound(installed, empty):
    found = json.loads(call([installed.with_name('kddense'), 'doctor', '--json'], empty))

    assert found['sound']
    assert found['modules']['kddense']['folder'].startswith(str(installed.parents[1]))
    assert not [note for note in found['notes'] if 'import path' in note]


STOCK = ('mmengine', 'mmdet', 'mmsegmentation', 'mmcv-lite', 'setuptools')


@pytest.mark.parametrize(
    'installed, left_out',
    [
        ([], ()),
        (['mmengine', 'mmdet', 'mmsegmentation'], ()),
        (['onedl-mmengine', 'onedl-mmdetection', 'onedl-mmsegmentation'], STOCK),
        (['onedl-mmengine', 'mmdet'], ('mmengine', 'mmcv-lite', 'setuptools')),
    ],
    ids=['nothing', 'stock', 'forks', 'one fork'],
)
def test_extras_leave_a_fork_that_is_there(installed, left_out):
    found = runpy.run_path(str(ROOT / 'setup.py'), run_name='setup')['extras'](installed)
    stock = {re.split('[<>=]', line)[0] for extra in ('detection', 'segmentation', 'lite') for line in found[extra]}

    assert stock & {*STOCK} == {*STOCK} - {*left_out}
    assert {'pycocotools', 'ftfy', 'regex'} <= stock
    assert any(line.startswith('onedl-mmengine') for line in found['forks'])
