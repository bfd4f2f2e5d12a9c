"""A checkpoint is exported with the config by which it was trained, and no code of it is run."""

from __future__ import annotations

import shutil

import pytest
import torch
from mmengine.config import Config

from kddense.export import config_from_text, export_student

from ..helpers.export_runs import assert_same_weights, plain, run_settings, weights


class TestConfigText:
    def test_it_reads_what_mmengine_writes(self, task):
        config = plain(task)
        assert config_from_text(config.pretty_text).to_dict() == config.to_dict()

    def test_keys_that_are_no_names_are_read(self):
        config = Config(dict(weights={'.*': 0.5, 'loss-a': dict(b=1)}, mixed={'1st': 1, 'second': 2}))
        assert config_from_text(config.pretty_text).to_dict() == config.to_dict()

    @pytest.mark.parametrize(
        'text',
        [
            'a = open("x")',
            'import os',
            'a = dict(**b)',
            'a = dict([1])',
            'a = dict({open("x"): 1})',
            'a = dict({**b})',
            'a = dict({}, {})',
            'a.b = 1',
            'a =',
        ],
    )
    def test_it_runs_nothing(self, text):
        with pytest.raises(ValueError, match='it is not plain data'):
            config_from_text(text)


class TestWhereTheConfigIsFound:
    def test_a_checkpoint_alone_carries_its_own(self, segmentor_run, tmp_path):
        shutil.copy(segmentor_run.checkpoint, tmp_path / 'moved.pth')
        (tmp_path / 'moved.py').write_text('raise RuntimeError("of something else")')
        exported = export_student(tmp_path / 'moved.pth', tmp_path / 'student.pth')
        assert Config.fromfile(tmp_path / 'student.py').to_dict() == run_settings(segmentor_run)
        assert exported.source == tmp_path / 'moved.pth'

    def test_bare_weights_have_it_beside_them(self, detector, tmp_path):
        torch.save(detector.build(plain(detector).model).state_dict(), tmp_path / 'bare.pth')
        with pytest.raises(ValueError, match='holds no config, and none lies beside it: pass --config'):
            export_student(tmp_path / 'bare.pth', tmp_path / 'student.pth')
        plain(detector).dump(tmp_path / 'bare.py')
        export_student(tmp_path / 'bare.pth', tmp_path / 'student.pth')
        assert_same_weights(weights(tmp_path / 'student.pth'), torch.load(tmp_path / 'bare.pth'))

    def test_a_config_on_request(self, segmentor_run, tmp_path):
        plain(segmentor_run.task, train_cfg__max_iters=99).dump(tmp_path / 'own.py')
        export_student(segmentor_run.folder, tmp_path / 'student.pth', config=tmp_path / 'own.py')
        assert Config.fromfile(tmp_path / 'student.py').train_cfg.max_iters == 99

    def test_a_work_dirs_config_that_is_gone(self, segmentor_run, tmp_path):
        (tmp_path / 'run').mkdir()
        shutil.copy(segmentor_run.checkpoint, tmp_path / 'run')
        export_student(tmp_path / 'run', tmp_path / 'student.pth')
        assert Config.fromfile(tmp_path / 'student.py').to_dict() == run_settings(segmentor_run)

    def test_code_in_a_checkpoints_config_is_not_run(self, detector, tmp_path):
        state = detector.build(plain(detector).model).state_dict()
        text = f'model = dict(type="X")\nran = open({str(tmp_path / "ran")!r}, "w")'
        torch.save(dict(state_dict=state, meta=dict(cfg=text)), tmp_path / 'evil.pth')
        with pytest.raises(ValueError, match='the config in .*evil.pth cannot be read .*: pass --config'):
            export_student(tmp_path / 'evil.pth', tmp_path / 'student.pth')
        assert not (tmp_path / 'ran').exists()
