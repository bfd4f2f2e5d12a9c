"""Nothing is lost by an export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kddense.export import PlainConfig, export_student

from ..helpers.export_runs import assert_same_weights, files_in, plain, weights


class TestNothingIsLost:
    def test_an_earlier_export(self, segmentor_run, tmp_path):
        for taken in ('student.pth', 'student.py', 'student.onnx'):
            (tmp_path / taken).write_text('mine')
            with pytest.raises(FileExistsError, match=f'{taken} exists, and nothing was written.*--force'):
                export_student(segmentor_run.folder, tmp_path / 'student.pth', onnx=True)
            assert files_in(tmp_path) == {taken: b'mine'}
            (tmp_path / taken).unlink()

    def test_force(self, segmentor_run, tmp_path):
        for name in ('student.pth', 'student.py', 'student.onnx'):
            (tmp_path / name).write_text('mine')
        exported = export_student(segmentor_run.folder, tmp_path / 'student.pth', force=True)
        assert_same_weights(weights(tmp_path / 'student.pth'), weights(segmentor_run.checkpoint))
        assert (tmp_path / 'student.onnx').read_text() == 'mine'
        assert f'{tmp_path / "student.onnx"} is of an earlier export: --onnx writes it anew' in exported.notes

    def test_what_is_exported(self, segmentor_run, tmp_path):
        shutil.copy(segmentor_run.checkpoint, tmp_path / 'moved.pth')
        plain(segmentor_run.task).dump(tmp_path / 'own.py')
        before = files_in(tmp_path)
        for out in ('moved.pth', 'own.pth'):
            with pytest.raises(FileExistsError, match='is what is to be exported, and is never overwritten'):
                export_student(tmp_path / 'moved.pth', tmp_path / out, config=tmp_path / 'own.py', force=True)
        assert files_in(tmp_path) == before

    def test_the_config_of_a_run(self, segmentor_run):
        """A work_dir's newest config is the run's."""
        before = files_in_tree(segmentor_run.folder)
        with pytest.raises(
            ValueError, match='run is the work_dir of a run, whose config student.py would be taken for'
        ):
            export_student(segmentor_run.folder, segmentor_run.folder / 'student.pth')
        assert files_in_tree(segmentor_run.folder) == before

    def test_a_failure_half_way_leaves_nothing(self, segmentor_run, tmp_path, monkeypatch):
        (tmp_path / 'student.pth').write_text('mine')

        def fail(*_: Any) -> None:
            raise RuntimeError('the disk is full')

        monkeypatch.setattr(PlainConfig, 'write', fail)
        with pytest.raises(RuntimeError, match='the disk is full'):
            export_student(segmentor_run.folder, tmp_path / 'student.pth', force=True)
        assert files_in(tmp_path) == {'student.pth': b'mine'}
        with pytest.raises(RuntimeError, match='the disk is full'):
            export_student(segmentor_run.folder, tmp_path / 'new' / 'deep' / 'student.pth')
        assert not (tmp_path / 'new').exists()


def files_in_tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}
