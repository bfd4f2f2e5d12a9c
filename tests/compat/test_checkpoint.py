"""Checkpoints are data: mmengine's own load, code does not, damage is named."""

import builtins
import functools
import hashlib
import http.server
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner import checkpoint as runner_checkpoint
from torch import nn

from kddense.compat import checkpoint, load_checkpoint, register_safe_globals

TORCH_READS_DATA = checkpoint._TORCH_READS_DATA


@pytest.fixture(params=['torch', 'restricted'])
def reader(request, monkeypatch):
    """Run with PyTorch's own reader of data (2.6 and later) and with what stands in for it before."""
    if request.param == 'torch' and not TORCH_READS_DATA:
        pytest.skip('PyTorch before 2.6')
    monkeypatch.setattr(checkpoint, '_TORCH_READS_DATA', request.param == 'torch')


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.fit = nn.Linear(1, 1)

    def forward(self, *samples, mode='tensor'):
        x = torch.stack(samples)
        return {'loss': (self.fit(x) - 2 * x).square().mean()}


def make_runner(work_dir, **options):
    data = [torch.tensor([float(i)]) for i in range(8)]
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(dataset=data, batch_size=2, sampler=dict(type=DefaultSampler, shuffle=True)),
        train_cfg=dict(by_epoch=False, max_iters=options.pop('max_iters', 2)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        param_scheduler=dict(type='MultiStepLR', milestones=[1], by_epoch=False),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        default_scope='mmengine',
        log_level='ERROR',
        **options,
    )


@pytest.fixture(scope='module')
def runner_file(tmp_path_factory):
    """What mmengine's runner writes after two iterations, a numpy scalar in its records included."""
    work_dir = tmp_path_factory.mktemp('run')
    runner = make_runner(work_dir, experiment_name='write')
    runner.message_hub.update_info('best_score', np.float64(0.5))  # as mmseg's IoUMetric leaves it
    runner.train()
    return work_dir / 'iter_2.pth'


def rename_in_pickle(source, target, old, new):
    """Copy a checkpoint, with one module name replaced in its pickle."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, 'w') as write:
        for entry in read.infolist():
            content = read.read(entry)
            if entry.filename.endswith('data.pkl'):
                assert old in content
                content = content.replace(old, new)
            write.writestr(entry.filename, content)


def test_a_runners_checkpoint(reader, runner_file):
    loaded = load_checkpoint(runner_file)
    assert loaded['meta']['iter'] == 2
    assert loaded['optimizer']['state'][0]['momentum_buffer'].shape == (1, 1)
    records = loaded['message_hub']
    assert records['runtime_info']['best_score'] == 0.5
    losses, counts = records['log_scalars']['train/loss'].data
    assert losses.shape == counts.shape == (2,)
    assert losses.dtype == np.float64
    assert records['log_scalars']['train/loss'].mean() == pytest.approx(losses.mean())


def test_the_other_numpys_names(reader, runner_file, tmp_path):
    ours, other = b'cnumpy._core.multiarray', b'cnumpy.core.multiarray'
    if np.__version__ < '2':
        ours, other = other, ours
    rename_in_pickle(runner_file, tmp_path / 'other.pth', ours, other)
    loaded = load_checkpoint(tmp_path / 'other.pth')
    assert len(loaded['message_hub']['log_scalars']['train/loss'].data[0]) == 2


@pytest.mark.parametrize('zipped', [True, False])
def test_a_state_dict(reader, tmp_path, zipped):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to(torch.float16)
    torch.save(model.state_dict(), tmp_path / 'model.pth', _use_new_zipfile_serialization=zipped)
    loaded = load_checkpoint(str(tmp_path / 'model.pth'))
    model.load_state_dict(loaded)
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.items())


def test_the_stock_runner_resumes(runner_file, tmp_path):
    register_safe_globals()
    runner = make_runner(tmp_path, experiment_name='resume', load_from=str(runner_file), resume=True, max_iters=3)
    runner.train()
    assert runner.iter == 3
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 3


@pytest.mark.skipif(not TORCH_READS_DATA, reason='PyTorch before 2.6 loads it anyway')
def test_why_the_list_is_needed(runner_file):
    code = f'import torch; torch.load({str(runner_file)!r})'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'UnpicklingError' in done.stderr


def test_the_list_is_short_and_getattr_is_not_on_it():
    allowed = checkpoint._allowed_globals()
    assert sorted({name.replace('._core', '.core') for name in allowed}) == [
        'builtins.getattr',  # by that name comes a function of ours, for four names of one class
        'mmengine.logging.history_buffer.HistoryBuffer',
        'numpy.core.multiarray._reconstruct',
        'numpy.core.multiarray.scalar',
        'numpy.dtype',
        'numpy.ndarray',
    ]
    assert getattr not in allowed.values()
    statistic = allowed['builtins.getattr']
    assert statistic(HistoryBuffer, 'mean') is HistoryBuffer.mean
    for owner, name in [(HistoryBuffer, '__init__'), (HistoryBuffer, 'update'), (os, 'system'), (torch.Tensor, 'mean')]:
        with pytest.raises(pickle.UnpicklingError, match=r'builtins\.getattr'):
            statistic(owner, name)


class Attack:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('function', [os.mkdir, builtins.exec, builtins.getattr, functools.partial])
def test_code_does_not_run(reader, tmp_path, function, zipped):
    harm = tmp_path / 'harm'
    arguments = {
        os.mkdir: (str(harm),),
        builtins.exec: (f'import os; os.mkdir({str(harm)!r})',),
        builtins.getattr: (nn.Parameter, '__init__'),
        functools.partial: (os.mkdir, str(harm)),
    }[function]
    file = tmp_path / 'evil.pth'
    torch.save(
        {'state_dict': {'w': torch.ones(1)}, 'x': Attack(function, *arguments)},
        file,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(
        ValueError, match=rf'holds pickled code \(\S*{function.__name__}\).* only if you trust'
    ) as caught:
        load_checkpoint(file)
    assert str(file) in str(caught.value)
    assert not harm.exists()


def test_code_runs_where_it_is_trusted(tmp_path):
    torch.save({'made': Attack(os.mkdir, str(tmp_path / 'made'))}, tmp_path / 'trusted.pth')
    load_checkpoint(tmp_path / 'trusted.pth', trust_checkpoint=True)
    assert (tmp_path / 'made').exists()


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist'):
        load_checkpoint(tmp_path / 'nowhere.pth')
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.95])
def test_a_truncated_file(reader, tmp_path, zipped, share):
    whole, part = tmp_path / 'whole.pth', tmp_path / 'part.pth'
    torch.save(nn.Linear(100, 10).state_dict(), whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    part.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r'part\.pth is not a readable checkpoint \(truncated download\?\)'):
        load_checkpoint(part)
    assert whole.read_bytes() == content


@pytest.mark.parametrize(
    'content', [b'<!DOCTYPE html><html>404</html>', b'version https://git-lfs.github.com/spec/v1\n']
)
def test_a_file_of_another_kind(reader, tmp_path, content):
    (tmp_path / 'page.pth').write_bytes(content)
    with pytest.raises(ValueError, match='not a readable checkpoint') as caught:
        load_checkpoint(tmp_path / 'page.pth')
    assert 'weights_only' not in str(caught.value)  # PyTorch's own message advises to load it as code


def test_a_tensor_is_not_a_checkpoint(tmp_path):
    torch.save(torch.ones(3), tmp_path / 'tensor.pth')
    with pytest.raises(ValueError, match='holds a Tensor, not a dictionary'):
        load_checkpoint(tmp_path / 'tensor.pth')


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a folder over HTTP; return the folder and its address."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *_: None)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_an_address_is_downloaded_once(server):
    folder, address = server
    torch.save({'w': torch.arange(3)}, folder / 'net.pth')
    digest = hashlib.sha256((folder / 'net.pth').read_bytes()).hexdigest()[:8]
    (folder / 'net.pth').rename(folder / f'net-{digest}.pth')
    for _ in range(2):
        assert load_checkpoint(f'{address}/net-{digest}.pth')['w'].tolist() == [0, 1, 2]
        (folder / f'net-{digest}.pth').unlink(missing_ok=True)


def test_addresses_of_one_file_name_are_two_files(server):
    folder, address = server
    for number, name in enumerate(('one', 'two')):
        (folder / name).mkdir()
        torch.save({'w': torch.tensor(number)}, folder / name / 'model.pth')
    assert [load_checkpoint(f'{address}/{name}/model.pth')['w'].item() for name in ('one', 'two', 'one')] == [0, 1, 0]


def test_addresses_that_fail(server):
    folder, address = server
    torch.save({'w': torch.arange(3)}, folder / 'net-01234567.pth')
    with pytest.raises(ValueError, match='arrived damaged'):
        load_checkpoint(f'{address}/net-01234567.pth')
    with pytest.raises(ConnectionError, match='could not be downloaded'):
        load_checkpoint(f'{address}/nothing.pth')


def test_newer_pickle_protocols_are_read_or_named(reader, tmp_path):
    file = tmp_path / 'four.pth'
    torch.save(
        {'w': torch.ones(2), 'x': Attack(os.mkdir, str(tmp_path / 'harm'))},
        file,
        pickle_protocol=pickle.HIGHEST_PROTOCOL,
    )
    with pytest.raises(ValueError, match='pickled code|not a readable checkpoint'):
        load_checkpoint(file)
    assert not (tmp_path / 'harm').exists()


@pytest.fixture
def old_torch(monkeypatch):
    """PyTorch before 2.6, whose ``torch.load`` runs what a file holds unless it is told not to."""
    stock = torch.load
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: stock(*args, **{'weights_only': False, **kwargs}))
    monkeypatch.setattr(checkpoint, '_TORCH_READS_DATA', False)
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.setattr(runner_checkpoint, 'load_from_http', runner_checkpoint.load_from_http)


@pytest.mark.parametrize('resume', [True, False])
def test_before_2_6_the_stock_runner_goes_on_by_our_loader(old_torch, resume, runner_file, tmp_path, monkeypatch):
    register_safe_globals()
    read = []
    ours = checkpoint._read
    monkeypatch.setattr(checkpoint, '_read', lambda file, *rest: read.append(file) or ours(file, *rest))
    runner = make_runner(
        tmp_path, experiment_name=f'old_{resume}', load_from=str(runner_file), resume=resume, max_iters=3
    )
    runner.train()

    assert read == [runner_file]
    assert runner.iter == 3
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 3
    assert resume == (runner.message_hub.get_info('best_score', None) == 0.5)


@pytest.mark.parametrize('address', [False, True], ids=['a file', 'an address'])
# Where PyTorch is that old, importing kddense has given mmengine its loader already: no process is without.
@pytest.mark.parametrize('known', [True, False] if checkpoint._TORCH_READS_DATA else [True])
def test_before_2_6_code_does_not_run_in_the_stock_loader(old_torch, known, address, tmp_path, monkeypatch):
    victim = tmp_path / 'attacked'
    torch.save({'state_dict': Attack(os.mkdir, str(victim))}, tmp_path / 'bad.pth')
    monkeypatch.setattr(checkpoint, '_download', lambda source: tmp_path / Path(source).name)
    monkeypatch.setattr(runner_checkpoint, 'load_url', lambda source, **_: torch.load(tmp_path / Path(source).name))
    source = 'https://example.org/bad.pth' if address else str(tmp_path / 'bad.pth')
    if not known:  # the file would run: what makes this test able to fail
        CheckpointLoader.load_checkpoint(source)
        assert victim.exists()
        return
    register_safe_globals()
    with pytest.raises(ValueError, match=r'holds pickled code .*mkdir.* if you trust its source, load it with torch'):
        CheckpointLoader.load_checkpoint(source)
    assert not victim.exists()
