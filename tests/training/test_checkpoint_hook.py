"""A kill while saving costs nothing: whichever call is the last, a whole checkpoint is named or found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS, DefaultScope

from kddense import files
from kddense.compat import load_checkpoint
from kddense.files import write_whole
from kddense.training import WholeCheckpointHook, checkpoints
from kddense.training.checkpoints import find_checkpoint, is_whole


class Crash(BaseException):
    """In place of SIGKILL: nothing in the code under test catches it."""


class Crashing:
    """Patches that let the process 'die' before or after the n-th of all calls that change the disk.

    A file that is being written then holds half of what it should.
    """

    def __init__(self, monkeypatch):
        self.left = None
        for owner, name in ((os, 'replace'), (os, 'fsync'), (Path, 'unlink')):
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name)))
        monkeypatch.setattr(Path, 'open', self._cutting(Path.open))

    def arm(self, calls):
        self.left = calls

    def _is_last(self):
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0

    def _wrapped(self, function):
        def call(*args, **kwargs):
            if self._is_last():
                raise Crash
            result = function(*args, **kwargs)
            if self._is_last():
                raise Crash
            return result

        return call

    def _cutting(self, function):
        def call(path, mode='r', *args, **kwargs):
            opened = function(path, mode, *args, **kwargs)
            if mode == 'wb' and self._is_last():
                opened.write(b'PK half of it')
                opened.close()
                raise Crash
            return opened

        return call


def plain(task, steps=6, **options):
    """Return a training of some steps with three checkpoints, of which one is kept."""
    saving = dict(interval=steps // 3, max_keep_ckpts=1, **options)
    config = task.plain(train_cfg__max_iters=steps, default_hooks__checkpoint=saving)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.custom_hooks = [dict(type='kddense.RandomStateHook')]
    config.custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
    return config


def test_whichever_call_is_the_last(segmentor, tmp_path, monkeypatch):
    """The second of three savings is broken off at each point in turn; what is left resumes to the same weights."""
    whole = segmentor.train(plain(segmentor, steps=3), tmp_path / 'whole')
    expected = whole.model.state_dict()
    crashing = Crashing(monkeypatch)
    save = WholeCheckpointHook._save_checkpoint_with_step
    points = 0
    while True:
        folder = tmp_path / f'point_{points}'

        def saving(hook, runner, step, meta, calls=points):
            crashing.arm(calls if step == 2 else None)
            save(hook, runner, step, meta)
            crashing.arm(None)

        monkeypatch.setattr(WholeCheckpointHook, '_save_checkpoint_with_step', saving)
        try:
            segmentor.train(plain(segmentor, steps=3), folder)
        except Crash:
            crashing.arm(None)
            points += 1
        else:
            break
        monkeypatch.setattr(WholeCheckpointHook, '_save_checkpoint_with_step', save)
        assert is_whole(folder / (folder / 'last_checkpoint').read_text().rpartition('/')[2])
        config = plain(segmentor, steps=3)
        config.resume = True
        resumed = segmentor.train(config, folder)
        assert resumed.train_loop.iter == 3
        for key, value in resumed.model.state_dict().items():
            assert torch.equal(value, expected[key]), (points, key)
        assert [path.name for path in folder.glob('*.pth*')] == ['iter_3.pth']
    assert points >= 14  # two files, each opened, synced, renamed, its folder synced; and the removal of two


def test_every_config_gets_it_by_its_usual_name(detector):
    detector._import()
    with DefaultScope.overwrite_default_scope('mmdet'):
        hook = HOOKS.build(dict(type='CheckpointHook', interval=1))
    assert type(hook) is WholeCheckpointHook
    assert isinstance(hook, CheckpointHook)


class TestWhatIsResumed:
    @pytest.fixture(scope='class')
    def trained(self, segmentor, tmp_path_factory):
        folder = tmp_path_factory.mktemp('trained')
        config = plain(segmentor)
        config.default_hooks.checkpoint.max_keep_ckpts = 3
        segmentor.train(config, folder)
        return folder

    @pytest.fixture
    def run(self, trained, tmp_path):
        for path in [*trained.glob('*.pth'), trained / 'last_checkpoint']:
            (tmp_path / path.name).write_bytes(path.read_bytes())
        return tmp_path

    def resumed_from(self, segmentor, folder, monkeypatch):
        """Return the file that a run resumes from, and what it says; it then ends at once."""
        told = []
        monkeypatch.setattr('kddense.training.checkpoint_hook.print_log', lambda text, *_: told.append(text))
        config = plain(segmentor)
        config.resume = True
        config.train_cfg.max_iters = 0
        runner = segmentor.runner(config, folder)
        runner.train()
        return runner._load_from and Path(runner._load_from).name, told

    def test_the_last_if_it_is_whole(self, segmentor, run, monkeypatch):
        assert self.resumed_from(segmentor, run, monkeypatch) == ('iter_6.pth', [])

    @pytest.mark.parametrize('pointer', [None, '', 'elsewhere/iter_9.pth'])
    def test_the_newest_if_the_pointer_is_no_use(self, pointer, segmentor, run, monkeypatch):
        (run / 'last_checkpoint').unlink()
        if pointer is not None:
            (run / 'last_checkpoint').write_text(pointer)
        found, (told,) = self.resumed_from(segmentor, run, monkeypatch)
        assert found == 'iter_6.pth'
        assert 'resuming from' in told
        assert 'iter_6.pth, the last that is whole' in told

    @pytest.mark.parametrize('keep', [0, 100, 0.99], ids=['empty', '100 bytes', 'nearly all'])
    def test_the_one_before_if_the_last_is_cut_off(self, keep, segmentor, run, monkeypatch):
        last = run / 'iter_6.pth'
        contents = last.read_bytes()
        last.write_bytes(contents[: keep if isinstance(keep, int) else int(keep * len(contents))])
        found, (told,) = self.resumed_from(segmentor, run, monkeypatch)
        assert found == 'iter_4.pth'
        assert 'iter_6.pth, which is absent or cut off: resuming from' in told

    def test_none_if_there_is_none(self, segmentor, run, monkeypatch):
        for path in run.glob('*.pth'):
            path.write_bytes(path.read_bytes()[:-1])
        found, (told,) = self.resumed_from(segmentor, run, monkeypatch)
        assert found is None
        assert told == f'{run} holds no whole checkpoint to resume: the training begins anew'

    def test_report_and_export_take_the_same(self, run):
        assert find_checkpoint(run).name == 'iter_6.pth'
        (run / 'iter_6.pth').write_bytes(b'')
        assert find_checkpoint(run).name == 'iter_4.pth'
        assert find_checkpoint(run / 'nowhere') is None


def test_a_checkpoint_removes_no_file_of_others(segmentor, tmp_path):
    """mmengine removes what a resumed checkpoint names as the best so far."""
    segmentor.train(plain(segmentor, save_best='mIoU', rule='greater'), tmp_path / 'run')
    saved = load_checkpoint(tmp_path / 'run' / 'iter_6.pth')
    treasure = tmp_path / 'treasure.pth'
    treasure.touch()
    saved['meta']['iter'] = 4
    saved['message_hub']['runtime_info'].update(
        best_ckpt=str(treasure), best_score=-1.0, keep_ckpt_ids=['../../treasure', 4]
    )
    saved['message_hub']['resumed_keys'].update(best_ckpt=True, best_score=True, keep_ckpt_ids=True)
    torch.save(saved, tmp_path / 'evil.pth')
    config = plain(segmentor, save_best='mIoU', rule='greater')
    stock = segmentor.plain(train_cfg__val_interval=2)
    config.update({key: stock[key] for key in ('val_cfg', 'val_dataloader', 'val_evaluator')})
    config.train_cfg = dict(stock.train_cfg, max_iters=6)
    config.resume, config.load_from = True, str(tmp_path / 'evil.pth')
    segmentor.train(config, tmp_path / 'resumed')
    assert list((tmp_path / 'resumed').glob('best_mIoU_iter_6.pth'))
    assert treasure.exists()


def test_the_best_so_far_is_there_until_a_better_one_is(segmentor, tmp_path, monkeypatch):
    """And the last one names it, so that a resumed run removes it in its turn."""
    from mmengine.evaluator import BaseMetric
    from mmengine.registry import METRICS

    class Rising(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results.append(0)

        def compute_metrics(self, results):
            return dict(rising=float(len(list(tmp_path.glob('**/best*')))) + len(told))

    told = []
    save = files.write_whole

    def looking(file, contents):
        told.append(sorted(path.name for path in tmp_path.glob('*.pth')))
        save(file, contents)

    monkeypatch.setattr(files, 'write_whole', looking)
    METRICS.register_module(module=Rising)
    try:
        config = segmentor.plain(train_cfg__max_iters=6, train_cfg__val_interval=2)
        config.default_hooks.checkpoint = dict(
            type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1, save_best='rising', rule='greater'
        )
        config.val_evaluator = config.test_evaluator = dict(type='Rising')
        segmentor.train(config, tmp_path)
    finally:
        METRICS._module_dict.pop('Rising')
    assert told[0] == []
    assert all(any(name.startswith('iter_') for name in names) for names in told[1:])
    assert all(any(name.startswith('best_') for name in names) for names in told[2:])
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['best_rising_iter_6.pth', 'iter_6.pth']


class TestWholeFiles:
    def test_a_failure_leaves_the_old_file_alone(self, tmp_path, monkeypatch):
        file = tmp_path / 'file'
        write_whole(file, b'old')

        def full(descriptor):
            raise OSError(28, 'No space left on device')

        monkeypatch.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='No space left'):
            write_whole(file, b'new')
        assert file.read_bytes() == b'old'
        assert list(tmp_path.iterdir()) == [file]

    def test_each_process_has_a_name_aside_of_its_own(self, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(files, '_sync', lambda path, flags: seen.append(path.name))
        for process in (7, 8):
            monkeypatch.setattr(os, 'getpid', lambda process=process: process)
            write_whole(tmp_path / 'file', b'text', shared=True)
        assert len({name for name in seen if name.endswith('.part')}) == 2

    def test_it_makes_the_folder(self, tmp_path):
        write_whole(tmp_path / 'new' / 'file', b'text')
        assert (tmp_path / 'new' / 'file').read_bytes() == b'text'

    @pytest.mark.parametrize('contents', [b'', b'PK', b'no archive at all'])
    def test_what_is_not_whole(self, contents, tmp_path):
        (tmp_path / 'file.pth').write_bytes(contents)
        assert not checkpoints.is_whole(tmp_path / 'file.pth')
        assert not checkpoints.is_whole(tmp_path / 'absent.pth')
