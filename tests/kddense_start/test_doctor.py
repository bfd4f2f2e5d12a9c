"""``kddense doctor``: each kind of trouble with its mend, in environments that are made up, and in real broken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kddense_start.doctor import examined
from kddense_start.environment import DISTRIBUTIONS, Environment, Found

ROOT = Path(__file__).parents[2]
SOUND = Environment(
    python='3.11.7',
    modules={name: Found('1.0', f'/site/{name}', (f'{names[0]} 1.0',)) for name, names in DISTRIBUTIONS.items()},
    operators=('INSTALLED', 'mmcv-lite is installed'),
    devices=('cpu',),
    wants_pkg_resources=True,
)
ABSENT = Found()
LITE = Found('2.2.0', '/site/mmcv', ('mmcv 2.2.0',))


def with_modules(**modules: Found) -> Environment:
    return replace(SOUND, modules={**SOUND.modules, **modules})


def test_a_sound_one_is_sound():
    found = examined(SOUND)

    assert found['sound']
    assert found['problems'] == []
    assert found['notes'] == []
    assert found['openmmlab'] == 'stock'


@pytest.mark.parametrize(
    'environment, what, do',
    [
        (with_modules(torch=ABSENT), 'torch is not installed', 'pip install torch torchvision'),
        (with_modules(mmengine=ABSENT), 'mmengine is not installed', "'kddense[forks]'"),
        (with_modules(mmcv=ABSENT), 'mmcv is not installed', 'mmcv-lite==2.1.0'),
        (with_modules(mmdet=ABSENT, mmseg=ABSENT), 'nothing to distil', "'kddense[detection,segmentation,lite]'"),
        (
            with_modules(mmdet=Found('', '/site/mmdet', ('mmdet 3.3.0',), 'AssertionError: MMCV==2.2.0')),
            'mmdet is in /site/mmdet and cannot be imported: AssertionError: MMCV==2.2.0',
            'pip install --force-reinstall --no-deps mmdet',
        ),
        (
            with_modules(kddense=Found('', '/site/kddense', (), 'SyntaxError: x')),
            'kddense is in /site/kddense and cannot be imported: SyntaxError: x',
            'kddense',
        ),
        (
            with_modules(mmdet=Found('3.5.1', '/site/mmdet', ('mmdet 3.3.0', 'onedl-mmdetection 3.5.1'))),
            'mmdet is installed by mmdet 3.3.0 and by onedl-mmdetection 3.5.1',
            'pip uninstall mmdet onedl-mmdetection',
        ),
        (with_modules(pycocotools=ABSENT), 'mmdet needs pycocotools', 'pip install pycocotools'),
        (with_modules(ftfy=ABSENT, regex=ABSENT), 'mmseg imports ftfy and regex', 'pip install ftfy regex'),
        (replace(SOUND, has_pkg_resources=False), 'setuptools 81', "'setuptools<81'"),
        (replace(SOUND, operators=('MISSING', 'mmcv-lite')), 'too late', 'python -m kddense.compat install'),
        (
            replace(SOUND, operators=('FOREIGN', 'mmcv has an _ext')),
            'mmcv has an _ext',
            'python -m kddense.compat install',
        ),
        (
            replace(with_modules(mmcv=LITE), mmcv_limits={'mmdet': '2.2.0'}),
            'mmdet 1.0 works with mmcv below 2.2.0, and mmcv 2.2.0 is installed',
            "'mmcv<2.2.0'",
        ),
    ],
)
def test_one_trouble_is_one_sentence_and_its_mend(environment, what, do):
    found = examined(environment)

    assert not found['sound']
    assert len(found['problems']) == 1
    assert what in found['problems'][0]['what']
    assert do in found['problems'][0]['do']


def test_what_is_only_worth_knowing_is_not_wrong():
    fork = Found('3.5.1', '/site/mmdet', ('onedl-mmdetection 3.5.1',))
    found = examined(replace(with_modules(mmdet=fork, mmseg=ABSENT), knows_our_configs=False))

    assert found['sound']
    assert found['openmmlab'] == 'both'
    assert [note.partition(':')[0] for note in found['notes']] == [
        'mmseg is not installed',
        'stock OpenMMLab and its forks are mixed, which nobody tested',
        'kddense is on the import path without being installed',
    ]


def test_mmcv_2_1_is_within_the_limits_that_mmdet_and_mmseg_name_themselves():
    from kddense_start import environment

    limits = {name: environment._mmcv_limit(environment._found(name)) for name in ('mmdet', 'mmseg')}
    assert set(limits.values()) <= {'2.2.0', ''}  # the forks name none


@pytest.fixture(scope='module')
def bare() -> dict:
    """What a Python says that has kddense and nothing else."""
    code = (
        f"import sys; sys.path.insert(0, '{ROOT}'); from kddense_start import doctor; sys.exit(doctor.main(['--json']))"
    )
    done = subprocess.run([sys.executable, '-IS', '-c', code], capture_output=True, text=True)

    assert done.returncode == 1, done.stderr
    return json.loads(done.stdout)


def test_a_wheel_without_its_extras_is_told_what_to_install(bare):
    assert [problem['what'].partition(' is ')[0] for problem in bare['problems'][:5]] == [
        'torch', 'torchvision', 'numpy', 'mmengine', 'mmcv'
    ]  # fmt: skip
    assert len(bare['problems']) == 6
    assert bare['openmmlab'] == 'none'


@pytest.mark.parametrize('arguments', [['-c', 'import kddense'], ['-m', 'kddense', 'train', 'x.py']])
def test_kddense_without_pytorch_is_one_sentence(arguments):
    done = subprocess.run(
        [sys.executable, '-S', *arguments], capture_output=True, text=True, env={'PYTHONPATH': str(ROOT)}
    )

    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith('needs torch, which is not installed: pip install torch torchvision')
    )


def test_the_module_s_doctor_survives_a_broken_mmengine(tmp_path):
    for name in ('torch', 'torchvision', 'numpy', 'mmcv', 'mmdet'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text("__version__ = '1.0'")
    (tmp_path / 'mmengine').mkdir()
    (tmp_path / 'mmengine' / '__init__.py').write_text("raise RuntimeError('no luck\\ntoday')")
    path = f'{tmp_path}:{ROOT}'
    done = subprocess.run(
        [sys.executable, '-S', '-m', 'kddense', 'doctor'], capture_output=True, text=True, env={'PYTHONPATH': path}
    )

    assert done.returncode == 1, done.stderr
    assert f'mmengine is in {tmp_path}/mmengine and cannot be imported: RuntimeError: no luck today' in done.stdout
    assert 'the installation is not sound' in done.stdout


def test_the_environment_of_these_tests_is_sound(python, tmp_path):
    done = subprocess.run([python, '-m', 'kddense', 'doctor', '--json'], capture_output=True, text=True, cwd=tmp_path)

    found = json.loads(done.stdout)
    assert done.returncode == 0, found['problems']
    assert found['modules']['kddense']['folder'] == str(ROOT / 'kddense')
    assert 'operators' in found['operators']
    assert found['devices'][0] == 'cpu'
