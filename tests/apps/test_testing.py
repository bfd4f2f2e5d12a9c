"""kddense test: what a work_dir's config says of its training does not reach the test."""

import pytest

from kddense.apps import test as app


def test_the_config_of_a_resumed_run_is_tested_and_resumes_nothing(tmp_path, monkeypatch):
    (tmp_path / 'resumed.py').write_text("model = dict(type='mmdet.FasterRCNN')\nresume = True\n")
    built = []
    monkeypatch.setattr(app, 'build_runner', lambda config: built.append(config) or pytest.fail('far enough'))
    with pytest.raises(pytest.fail.Exception):
        app.main([str(tmp_path / 'resumed.py'), 'x.pth'])
    assert built[0].resume is False
