"""A checkpoint is data, also its texts: nothing that it says of its config is executed, imported or called."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch
from mmengine.registry import MODELS

from kddense import Objective
from kddense.apps.test import main as kddense_test
from kddense.compat import load_checkpoint
from kddense.configs import config_from_text
from kddense.export import export_student
from kddense.report.report import write_report

HEARD = []


class Listening(Objective):
    """An objective that asks no teacher, and notes what it is told of the run."""

    asks_teacher = False

    def bind(self, student, teacher):
        pass

    def check_run(self, config, checkpoint):
        HEARD.append(config)

    def forward(self, seen, taught):
        return dict(loss_toy=sum(seen.losses[name] for name in seen.losses if 'loss' in name) * 0)


@pytest.fixture(scope='module', autouse=True)
def listening():
    MODELS.register_module(module=Listening)
    yield
    MODELS._module_dict.pop('Listening')


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that any of the hostile texts would make; ``trap`` is a module that does so when it is imported."""
    file = tmp_path / 'it_ran'
    (tmp_path / 'modules').mkdir()
    (tmp_path / 'modules' / 'trap.py').write_text(f'open({str(file)!r}, "w")\nclass Trap: pass')
    shutil.copy(tmp_path / 'modules' / 'trap.py', tmp_path / 'modules' / 'registry.py')
    monkeypatch.syspath_prepend(str(tmp_path / 'modules'))
    yield file
    assert not file.exists()
    assert 'trap' not in sys.modules


def hostile(marker):
    """Return what calls a program, by its name in a registry."""
    return dict(type='subprocess.Popen', args=['touch', str(marker)])


PLACES = (
    'model',
    'model.backbone',
    'model.decode_head.loss_decode',
    'model.data_preprocessor',
    'model.train_cfg.sampler',
    'custom_hooks',
    'default_hooks.timer',
    'train_dataloader.dataset',
    'train_dataloader.dataset.pipeline',
    'train_dataloader.sampler',
    'val_evaluator',
    'optim_wrapper',
    'optim_wrapper.optimizer',
    'param_scheduler',
    'visualizer.vis_backends',
)


def with_at(config, place, value):
    """Put a value at a place of a config: into the list that is there, or instead of what is there."""
    *parents, last = place.split('.')
    at = config
    for one in parents:
        at = at.setdefault(one, {}) or at
    at[last] = [value, *at[last]] if isinstance(at.get(last), list) else value
    return config


def checkpoint_with(segmentor, text, file):
    state = segmentor.build(segmentor.plain().model).state_dict()
    torch.save(dict(state_dict=state, meta=dict(cfg=text)), file)
    return file


def assert_refused(source, folder, reason):
    with pytest.raises(ValueError, match='--trust-checkpoint') as error:
        export_student(source, folder / 'student.pth')
    assert reason in str(error.value)
    assert not list(folder.glob('student.*'))


class TestExport:
    @pytest.mark.parametrize('place', PLACES)
    def test_a_type_that_no_registry_knows(self, place, segmentor, marker, tmp_path):
        config = with_at(segmentor.plain().to_dict(), place, hostile(marker))
        assert_refused(checkpoint_with(segmentor, _text(config), tmp_path / 'evil.pth'), tmp_path, "'subprocess.Popen'")

    @pytest.mark.parametrize(
        'place, value, reason',
        [
            ('custom_imports', dict(imports=['trap']), "'trap'"),
            ('custom_imports', dict(imports='os.path'), "'os.path'"),
            ('model.type', 'trap.Trap', "'trap.Trap'"),
            ('model.type', 'kddense.apps.train.signal.raise_signal', 'raise_signal'),
            ('model.type', 'mmengine.utils.path.os.abort', 'os.abort'),
            ('optim_wrapper.constructor', 'trap.Trap', "'trap.Trap'"),
            ('runner_type', 'trap.Trap', "'trap.Trap'"),
            ('default_scope', 'trap', "'trap'"),
            ('model.backbone._scope_', 'trap', "'trap'"),
            ('model.test_cfg.nms', dict(type='__import__("trap").Trap'), '__import__'),
            ('_base_', 'modules/trap.py', '_base_'),
            ('model.test_cfg.text', '{{$HOME:x}}', 'model.test_cfg.text'),
            ('model.test_cfg.odd', {"x': __import__('trap'), 'y": 1}, 'model.test_cfg.odd'),
        ],
    )
    def test_other_texts_that_would_be_looked_up_or_run(self, place, value, reason, segmentor, marker, tmp_path):
        config = with_at(segmentor.plain().to_dict(), place, value)
        assert_refused(checkpoint_with(segmentor, _text(config), tmp_path / 'evil.pth'), tmp_path, reason)

    @pytest.mark.parametrize(
        'statement',
        [
            'import trap',
            '__import__("trap")',
            'x = __import__("trap")',
            'class trap: pass',
            'x = [i for i in "trap"]',
            'x =',
        ],
    )
    def test_python_in_the_text(self, statement, segmentor, marker, tmp_path):
        text = f'{segmentor.plain().pretty_text}\n{statement}\n'
        assert_refused(checkpoint_with(segmentor, text, tmp_path / 'evil.pth'), tmp_path, 'it is not plain data')

    def test_a_distillation_of_ours_is_exported(self, segmentor, tmp_path):
        config = segmentor.distilled()
        source = checkpoint_with(segmentor, config.pretty_text, tmp_path / 'good.pth')
        export_student(source, tmp_path / 'student.pth')
        exported = load_checkpoint(tmp_path / 'student.pth')['meta']['cfg']
        assert config_from_text(exported).model.to_dict() == segmentor.plain().model.to_dict()

    def test_what_is_trusted_may_name_what_it_likes(self, segmentor, tmp_path, monkeypatch):
        (tmp_path / 'mine.py').write_text('')
        monkeypatch.syspath_prepend(str(tmp_path))
        config = segmentor.plain()
        config.custom_imports = dict(imports=['mine'])
        source = checkpoint_with(segmentor, config.pretty_text, tmp_path / 'good.pth')
        export_student(source, tmp_path / 'student.pth', trust_checkpoint=True)
        assert 'mine' in sys.modules


def _text(config):
    return '\n'.join(f'{key} = {value!r}' for key, value in config.items())


class TestOtherDoors:
    @pytest.fixture(scope='class')
    def config(self, segmentor):
        """Two steps of a training, in which an objective asks for the run's config."""
        config = segmentor.distilled(dict(toy=dict(type='Listening')), train_cfg__max_iters=2)
        config.default_hooks.checkpoint.interval = 1
        config.custom_hooks = [dict(type='kddense.RandomStateHook')]
        return config

    @pytest.fixture
    def poisoned(self, config, segmentor, tmp_path, marker):
        """The work_dir of a run whose first checkpoint holds hostile texts wherever a config is kept."""
        if not hasattr(TestOtherDoors, 'run'):
            TestOtherDoors.run = tmp_path / 'run'
            segmentor.train(config.copy(), TestOtherDoors.run)
        folder = tmp_path / 'poisoned'
        shutil.copytree(TestOtherDoors.run, folder)
        evil = with_at(segmentor.plain().to_dict(), 'train_dataloader.dataset', hostile(marker))
        text = f'{_text(evil)}\nimport trap\n'
        for file in folder.glob('*.pth'):
            saved = load_checkpoint(file)
            saved['meta'].update(cfg=text, config=text)
            saved['message_hub']['runtime_info']['cfg'] = text
            torch.save(saved, file.with_suffix('.new'))  # what was loaded is mapped from the file
            file.with_suffix('.new').replace(file)
        return folder

    def test_resume(self, config, segmentor, poisoned, tmp_path):
        changed = config.copy()
        changed.resume, changed.load_from = True, str(poisoned / 'iter_1.pth')
        HEARD.clear()
        runner = segmentor.train(changed, tmp_path / 'resumed')
        assert runner.iter == 2
        assert [runner.cfg.pretty_text] == HEARD

    def test_load_from(self, config, segmentor, poisoned, tmp_path):
        changed = config.copy()
        changed.load_from = str(poisoned / 'iter_2.pth')
        HEARD.clear()
        runner = segmentor.train(changed, tmp_path / 'loaded')
        assert [runner.cfg.pretty_text] == HEARD

    def test_test(self, config, segmentor, poisoned, tmp_path):
        changed = config.copy()
        changed.load_from = str(poisoned / 'iter_2.pth')
        assert 'mIoU' in segmentor.runner(changed, tmp_path / 'tested').test()

    def test_kddense_test(self, segmentor, poisoned, tmp_path, capfd):
        segmentor.plain(work_dir=str(tmp_path / 'out')).dump(tmp_path / 'plain.py')
        kddense_test([str(tmp_path / 'plain.py'), str(poisoned / 'iter_2.pth')])
        assert 'mIoU' in ''.join(capfd.readouterr())

    def test_a_teacher(self, config, segmentor, poisoned, tmp_path):
        changed = config.copy()
        plain = dict(model=segmentor.plain().model.to_dict(), default_scope='mmseg')
        changed.model.teacher = dict(config=plain, checkpoint=str(poisoned / 'iter_2.pth'))
        assert segmentor.train(changed, tmp_path / 'taught').iter == 2

    def test_kddense_test_refuses_the_checkpoint_of_another_model(self, segmentor, poisoned, tmp_path):
        other = segmentor.plain(work_dir=str(tmp_path / 'out'), model__decode_head__channels=12)
        other.dump(tmp_path / 'other.py')
        with pytest.raises(
            SystemExit, match=r'is of another model than .* weights of another shape, such as decode_head'
        ):
            kddense_test([str(tmp_path / 'other.py'), str(poisoned / 'iter_2.pth')])

    def test_report(self, poisoned, tmp_path, marker):
        write_report(
            distilled=[poisoned], plain=None, teacher=None, out=tmp_path / 'report.html', command='kddense report'
        )
        assert (tmp_path / 'report.html').is_file()
