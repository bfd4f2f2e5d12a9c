"""Packages that data need, told before anything is loaded."""

import pytest

from kddense.apps import needed, test, train

CONFIG = """
_base_ = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'
"""
SENTENCE = "error: {} is of COCO's panoptic data, which need panopticapi, not installed here: pip install 'git+https://"


@pytest.mark.parametrize(
    'command, changes, part',
    [(train, '', 'train_dataloader'), (test, 'train_dataloader = val_dataloader = None\n', 'val_evaluator')],
)
def test_panoptic_data(command, changes, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'panoptic.py').write_text(CONFIG + changes)
    (tmp_path / 'weights.pth').touch()
    monkeypatch.setattr(needed.importlib.util, 'find_spec', lambda name: None)
    arguments = ['panoptic.py', 'weights.pth'][: 2 if command is test else 1]
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert str(ended.value).startswith(SENTENCE.format(part))


def test_other_data_need_nothing_more(monkeypatch):
    monkeypatch.setattr(needed.importlib.util, 'find_spec', lambda name: None)
    needed.check_packages(dict(train_dataloader=dict(dataset=dict(type='CocoDataset', pipeline=[dict(type='Resize')]))))
