"""An exported checkpoint holds the weights that were asked for, and nothing of the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kddense.compat import load_checkpoint
from kddense.export import config_from_text, export_student

from ..helpers.export_runs import assert_same_weights, plain, run_settings, weights


class TestCheckpoint:
    @pytest.fixture(scope='class')
    def exported(self, segmentor_run, tmp_path_factory):
        out = tmp_path_factory.mktemp('exported') / 'student.pth'
        export_student(segmentor_run.folder, out)
        return load_checkpoint(out)

    def test_it_holds_nothing_but_weights_and_meta(self, exported, segmentor_run):
        run = load_checkpoint(segmentor_run.checkpoint)
        assert {'optimizer', 'message_hub', 'param_schedulers', 'random_state'} <= run.keys()
        assert exported.keys() == {'meta', 'state_dict'}
        assert exported['meta'].keys() == {'epoch', 'iter', 'mmengine_version', 'dataset_meta', 'cfg'}
        for key in exported['meta'].keys() - {'cfg'}:
            assert exported['meta'][key] == run['meta'][key]
        assert exported['meta']['iter'] == 12

    def test_weights_and_versions_are_the_plain_students(self, exported, segmentor_run):
        expected = segmentor_run.task.build(plain(segmentor_run.task).model).state_dict()
        assert 'kddense' in weights(segmentor_run.checkpoint)._metadata['']
        assert exported['state_dict']._metadata == expected._metadata
        assert list(exported['state_dict']) == list(expected)
        assert_same_weights(exported['state_dict'], weights(segmentor_run.checkpoint))

    def test_its_config_is_the_one_beside_it(self, exported, segmentor_run):
        assert config_from_text(exported['meta']['cfg']).to_dict() == run_settings(segmentor_run)

    def test_an_export_can_be_exported(self, segmentor_run, tmp_path):
        export_student(segmentor_run.folder, tmp_path / 'once.pth')
        (tmp_path / 'once.py').unlink()
        assert export_student(tmp_path / 'once.pth', tmp_path / 'twice.pth').notes == ()
        assert_same_weights(weights(tmp_path / 'twice.pth'), weights(tmp_path / 'once.pth'))

    def test_numpy_values_become_plain_ones(self, structured, tmp_path):
        state = structured.build(plain(structured).model).state_dict()
        meta = dict(
            cfg=plain(structured).pretty_text, dataset_meta=dict(palette=np.eye(3), classes=('a', np.str_('b')))
        )
        torch.save(dict(state_dict=state, meta=meta), tmp_path / 'plain.pth')
        export_student(tmp_path / 'plain.pth', tmp_path / 'student.pth', trust_checkpoint=True)
        found = load_checkpoint(tmp_path / 'student.pth')['meta']['dataset_meta']
        assert found == dict(palette=np.eye(3).tolist(), classes=('a', 'b'))
        assert type(found['classes'][1]) is str


class TestAverage:
    """By EMAHook the average is saved as ``state_dict``; the hub of the runner still has the trained weights."""

    def test_trained_weights_by_default(self, detector_run, tmp_path):
        exported = export_student(detector_run.folder, tmp_path / 'student.pth')
        assert_same_weights(weights(tmp_path / 'student.pth'), detector_run.student.state_dict())
        assert any('average' in note and '--ema' in note for note in exported.notes)

    def test_the_average_on_request(self, detector_run, tmp_path):
        exported = export_student(detector_run.folder, tmp_path / 'student.pth', ema=True)
        (hook,) = (hook for hook in detector_run.runner.hooks if type(hook).__name__ == 'EMAHook')
        average = hook.ema_model.module.state_dict()
        assert_same_weights(weights(tmp_path / 'student.pth'), average)
        assert not torch.equal(
            average['neck.lateral_convs.0.conv.weight'], detector_run.student.neck.lateral_convs[0].conv.weight
        )
        assert not any('--ema' in note for note in exported.notes)

    def test_a_run_without_one(self, segmentor_run, tmp_path):
        with pytest.raises(ValueError, match='iter_12.pth keeps no averaged weights, its run had no EMAHook'):
            export_student(segmentor_run.folder, tmp_path / 'student.pth', ema=True)
        assert not list(tmp_path.iterdir())
