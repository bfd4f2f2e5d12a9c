"""``python -m kddense.compat``: what it writes, what it leaves alone, and that stock scripts then work."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kddense.compat import State, install, standin, state, uninstall
from kddense.compat.__main__ import main

mmcv_spec = importlib.util.find_spec('mmcv')
MMCV = Path(mmcv_spec.origin).parent if mmcv_spec else None


@pytest.fixture
def folder(tmp_path):
    """An empty ``mmcv`` package."""
    folder = tmp_path / 'mmcv'
    folder.mkdir()
    (folder / '__init__.py').touch()
    return folder


def test_install_and_uninstall_can_be_repeated(folder):
    assert state(folder) is State.MISSING
    assert 'wrote' in install(folder)
    assert state(folder) is State.INSTALLED
    assert 'nothing to do' in install(folder)
    assert 'removed' in uninstall(folder)
    assert 'nothing to do' in uninstall(folder)
    assert [path.name for path in folder.iterdir()] == ['__init__.py']


def test_install_renews_what_an_older_version_wrote(folder):
    install(folder)
    file = folder / '_ext.py'
    file.write_text(file.read_text() + '# of an older version\n')
    assert 'wrote' in install(folder)
    assert file.read_text() == standin.INSTALLED_FILE


def test_a_foreign_file_is_left_alone(folder):
    file = folder / '_ext.py'
    file.write_text('nms = None\n')
    assert state(folder) is State.FOREIGN
    with pytest.raises(RuntimeError, match='kddense did not write'):
        install(folder)
    uninstall(folder)
    assert file.read_text() == 'nms = None\n'


def test_compiled_mmcv_wins(folder):
    (folder / f'_ext{importlib.machinery.EXTENSION_SUFFIXES[0]}').touch()
    assert state(folder) is State.COMPILED
    assert 'compiled mmcv' in install(folder)
    assert not (folder / '_ext.py').exists()
    standin_left_over = folder / '_ext.py'
    standin_left_over.write_text(standin.INSTALLED_FILE)
    assert state(folder) is State.COMPILED


def test_mmcv_may_be_absent(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(standin, '_mmcv_folder', lambda: None)
    monkeypatch.delitem(sys.modules, standin.EXT, raising=False)
    assert state() is State.NO_MMCV
    standin.register_operators()
    assert standin.EXT not in sys.modules
    assert main(['install']) == 1
    assert 'install mmcv-lite' in capsys.readouterr().err
    assert main(['uninstall']) == 0


def test_registering_respects_what_is_there(folder, monkeypatch):
    monkeypatch.setattr(standin, '_mmcv_folder', lambda: folder)
    monkeypatch.delitem(sys.modules, standin.EXT, raising=False)
    install(folder)
    standin.register_operators()
    assert standin.EXT not in sys.modules  # the installed file will be imported in its turn
    uninstall(folder)
    standin.register_operators()
    assert sys.modules[standin.EXT].__spec__ is not None
    monkeypatch.setitem(sys.modules, standin.EXT, compiled := object())
    standin.register_operators()
    assert sys.modules[standin.EXT] is compiled


def test_the_command_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(standin, '_mmcv_folder', lambda: folder)
    for command, says in [
        ('status', 'without a stand-in'),
        ('install', 'wrote'),
        ('status', 'stand-in'),
        ('uninstall', 'removed'),
    ]:
        assert main([command]) == 0
        assert says in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(['reinstall'])


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A folder for PYTHONPATH with mmcv-lite as it was delivered, by links."""
    if MMCV is None or state() is State.COMPILED:
        pytest.skip('needs mmcv-lite')
    site = tmp_path_factory.mktemp('site')
    (site / 'mmcv').mkdir()
    for entry in MMCV.iterdir():
        if entry.name not in ('_ext.py', '__pycache__'):
            (site / 'mmcv' / entry.name).symlink_to(entry)
    return site


def python(site, *arguments):
    env = {**os.environ, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, cwd=site)


@pytest.fixture(scope='module')
def installed(site):
    done = python(site, '-m', 'kddense.compat', 'install')
    assert done.returncode == 0, done.stderr
    assert (site / 'mmcv' / '_ext.py').exists()
    return site


def test_mmcv_ops_works_in_a_process_that_never_imports_kddense(installed):
    done = python(
        installed,
        '-c',
        textwrap.dedent("""
            import sys, torch
            import mmcv.ops
            assert mmcv.__file__.startswith(sys.argv[1]) and 'kddense' not in sys.modules
            print(mmcv.ops.nms(torch.tensor([[0., 0, 4, 4]] * 2), torch.tensor([0.1, 0.2]), 0.5)[1].tolist())
            try:
                mmcv.ops.nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)
            except NotImplementedError as error:
                print(error)
            from mmengine.utils.dl_utils import mmcv_full_available
            print('operators:', mmcv_full_available())
            if hasattr(torch.serialization, 'get_safe_globals'):
                names = [str(entry) for entry in torch.serialization.get_safe_globals()]
                assert any('HistoryBuffer' in name for name in names)
            import kddense.compat
            kddense.compat.enable()
            assert sys.modules['mmcv._ext'].__file__.startswith(sys.argv[1])
        """),
        str(installed),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('[1]\n')
    assert "'nms_rotated' has no stand-in" in done.stdout
    assert 'operators: True' in done.stdout


def test_the_stock_test_script_of_mmdet_starts(installed):
    mmdet = pytest.importorskip('mmdet')
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'test.py'
    done = python(installed, str(script), '--help')
    assert done.returncode == 0, done.stderr
    assert 'checkpoint' in done.stdout


def test_without_kddense_the_installed_file_says_what_to_do(installed):
    done = python(installed, '-c', "import sys; sys.modules['kddense'] = None; import mmcv._ext")
    assert done.returncode != 0
    assert 'ImportError' in done.stderr.splitlines()[-1]
    assert 'install kddense, or delete this file' in done.stderr
