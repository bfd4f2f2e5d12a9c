"""Every command: bad arguments end it in one sentence, with a status that is not 0, and leave nothing behind."""

import pytest

from kddense.apps import benchmark, export, report, teacher_errors, test, train
from kddense.apps.command_line import in_one_sentence
from kddense.apps.measure import gradients

NO_RUN = "model = dict(type='mmdet.FasterRCNN', backbone=dict(type='ResNet', depth=18))\n"
TRAINED = "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'plain.py').write_text(NO_RUN + TRAINED)
    (tmp_path / 'untrained.py').write_text(NO_RUN)
    (tmp_path / 'broken.py').write_text('model = dict(')
    (tmp_path / 'no_model.py').write_text('a = 1\n')
    (tmp_path / 'cut.pth').write_bytes(b'PK\x03\x04 123')
    (tmp_path / 'empty').mkdir()
    return tmp_path


@pytest.mark.parametrize(
    'command, arguments, expected',
    [
        (train, 'nowhere.py', "there is no file 'nowhere.py'"),
        (train, 'plan.py', "there is no file 'plan.py'; the nearest names are 'plain.py'"),
        (train, 'empty', "'empty' is a folder, not a config"),
        (train, 'broken.py', "'broken.py' cannot be read: "),
        (train, 'no_model.py', "'no_model.py' holds no model"),
        (train, 'untrained.py --amp', "'untrained.py' has no optim_wrapper"),
        (train, 'mmdett::x.py', "names the package 'mmdett', which is not there; the nearest names are 'mmdet'"),
        (train, 'plain.py --cfg-options model', "argument --cfg-options: must be key=value, got 'model'"),
        (train, 'plain.py --cfg-options model.type.a=3', '--cfg-options: '),
        (train, 'plain.py', 'train_dataloader, train_cfg, and optim_wrapper should be either all None or not None'),
        (test, 'nowhere.py cut.pth', "there is no file 'nowhere.py'"),
        (test, 'untrained.py cut.pth', 'model (mmdet.FasterRCNN) cannot be built'),
        (benchmark, '--config plain.py', "--config 'plain.py' distils nothing: its model is no kddense.Distiller"),
        (benchmark, '--config nowhere.py', "--config: there is no file 'nowhere.py'"),
        (benchmark, '--config plain.py --rounds -1', 'argument --rounds: must be at least 1, got -1'),
        (benchmark, '--config plain.py --rounds x', "argument --rounds: must be a whole number, got 'x'"),
        (benchmark, '--config plain.py --shape 1 0 8', 'argument --shape: must be at least 1, got 0'),
        (report, '--distilled empty', '--distilled: empty holds no results'),
        (report, '--distilled nowhere', '--distilled: there is no folder nowhere'),
        (report, '--distilled empty --images 0', 'argument --images: must be at least 1, got 0'),
        (report, '--distilled empty --output a.html', 'unrecognized arguments: --output a.html; did you mean --out?'),
        (train, 'plain.py --work-dri=a', 'unrecognized arguments: --work-dri=a; did you mean --work-dir?'),
        (train, 'plain.py --zzz', 'unrecognized arguments: --zzz\n'),
        (export, 'empty out.pth', 'empty holds no checkpoint'),
        (export, 'cut.pth out.pth', 'cut.pth is not a readable checkpoint'),
        (teacher_errors, 'plain.py out.json', "'plain.py' distils nothing"),
        (teacher_errors, 'nowhere.py out.json', "there is no file 'nowhere.py'"),
        (gradients, 'plain.py', 'gradients are compared in a config that distils'),
    ],
)
def test_a_bad_argument(command, arguments, expected, folder, capsys):
    before = sorted(folder.rglob('*'))
    with pytest.raises(SystemExit) as ended:
        command.main(arguments.split())
    said = f'{ended.value.code}\n{capsys.readouterr().err}'
    assert ended.value.code != 0
    assert expected in said
    assert 'Traceback' not in said
    left = [path for path in sorted(folder.rglob('*')) if path not in before and 'work_dirs' not in path.parts]
    assert left == []


def test_what_a_worker_of_a_data_loader_could_not_read_is_one_sentence():
    text = (
        'Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
        '  File "worker.py", line 3, in loop\nFileNotFoundError: [Errno 2] No such file or directory: \'gone.jpg\'\n'
    )
    with pytest.raises(SystemExit) as ended, in_one_sentence():
        raise FileNotFoundError(text)
    assert ended.value.code == "error: [Errno 2] No such file or directory: 'gone.jpg'"
