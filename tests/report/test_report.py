"""The report: what it shows of whole runs, what it says of runs that lack something, and how a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from mmengine.config import Config

from kddense.report.contents import Report
from kddense.report.entrants import read_entrants
from kddense.report.evaluation import load_model
from kddense.report.report import _in_float as in_float
from kddense.report.report import write_report
from kddense.training.checkpoints import find_checkpoint

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Train a teacher, a plain and a distilled student of a family, once; returns the folder with the three work_dirs."""
    known = {}

    def train(task) -> Path:
        if task.name not in known:
            folder = tmp_path_factory.mktemp(f'runs_{task.name}')
            short = dict(train_cfg__max_epochs=2) if task.package == 'mmdet' else dict(train_cfg__max_iters=4)
            short |= {} if task.package == 'mmdet' else dict(train_cfg__val_interval=2)
            taught = task.distilled(**short)
            wide = task._widened()
            wide.merge_from_dict({key.replace('__', '.'): value for key, value in short.items()})
            taught.model.teacher = dict(config=str(folder / 'teacher' / f'{task.name}.py'), checkpoint=None)
            for role, config in (('teacher', wide), ('plain', task.plain(**short)), ('distilled', taught)):
                if role == 'distilled':
                    config.model.teacher.checkpoint = str(find_checkpoint(folder / 'teacher'))
                _train(task, config, folder / role)
            known[task.name] = folder
        return known[task.name]

    return train


def _train(task, config, folder: Path) -> None:
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=2, by_epoch=task.package == 'mmdet')
    task.train(config, folder)


def report_of(folder: Path, **options):
    arguments = dict(
        distilled=[folder / 'distilled'],
        plain=folder / 'plain',
        teacher=folder / 'teacher',
        images=1,
        say=lambda text: None,
    )
    return write_report(folder / 'report.html', **{**arguments, **options})


def text_of(folder: Path) -> str:
    return (folder / 'report.html').read_text()


def change(work_dir: Path, pattern: str, text: str) -> None:
    (config,) = work_dir.glob('*.py')
    changed, count = re.subn(pattern, text, config.read_text())
    assert count
    config.write_text(changed)


@pytest.fixture
def copied(runs, structured, tmp_path):
    """Runs of a segmentor to spoil."""
    folder = tmp_path / 'runs'
    shutil.copytree(runs(structured), folder)
    return folder


def test_a_student_of_few_bits_has_a_float_teacher_and_is_timed_in_float(copied):
    (config,) = (copied / 'distilled').glob('*.py')
    hook = dict(type='kddense.QuantiseHook', weights=dict(type='kddense.TernaryQuantiser'))
    config.write_text(f"{config.read_text()}\ndefault_hooks['quantise'] = {hook}\n")
    report = Report(read_entrants([copied / 'distilled'], None, None), 'val', '')
    for entrant in report.entrants:
        entrant.model = load_model(entrant.config, str(entrant.run.checkpoint))
    teacher, student = (bool(entrant.model.decode_head.bottleneck.conv._forward_hooks) for entrant in report.entrants)
    assert (teacher, student) == (False, True)
    (timed,) = (in_float(entrant, False) for entrant in report.entrants if entrant.role == 'distilled')
    assert not timed.decode_head.bottleneck.conv._forward_hooks


FAMILIES = {
    'detector': dict(headline='mAP', pairs=False, scores=False),
    'structured': dict(headline='mIoU', pairs=True, scores=True),
    'depth': dict(headline='abs rel', pairs=True, scores=True),
}


@pytest.mark.parametrize('name', FAMILIES)
def test_whole_runs_are_shown_whole(name, request, runs):
    task = request.getfixturevalue(name)
    folder, expected = runs(task), FAMILIES[name]
    report = report_of(folder, images=2, command='python tools/report.py --all')

    assert report.faults == []
    assert [entrant.title for entrant in report.entrants] == ['teacher', 'plain student', 'distilled student']
    assert report.metrics[0].label == expected['headline']
    assert all(entrant.costs and not entrant.logged for entrant in report.entrants)
    assert report.entrants[0].costs.parameters > report.entrants[1].costs.parameters
    assert report.entrants[1].costs.parameters == report.entrants[2].costs.parameters
    captions = [[figure.caption for figure in row] for _, row in report.predictions]
    assert captions == [['ground truth', 'teacher', 'plain student', 'distilled student']] * 2
    captions = [[figure.caption for figure in row] for _, row in report.energies]
    assert captions == [['teacher', 'student before training', 'plain student', 'distilled student']] * 2
    assert bool(report.pairs) == expected['pairs']
    assert ("The discriminator's scores" in report.curves) == expected['scores']
    assert {'The metric', "The student's own losses", 'Distillation losses'} <= set(report.curves)
    page = text_of(folder)
    for text in ('python tools/report.py --all', 'kddense.Distiller', 'seed', 'PyTorch', 'multiply-adds'):
        assert text in page


def test_the_figures_are_those_of_the_last_validation(runs, structured):
    """Measured again, the checkpoints give what the log has."""
    report = report_of(runs(structured))
    for entrant in report.entrants:
        assert entrant.evaluation.metrics['mIoU'] == pytest.approx(entrant.run.metrics()['mIoU'], abs=0.0051)


def test_every_loss_of_the_log_has_its_curve(runs, structured):
    folder = runs(structured)
    (log,) = (folder / 'distilled').glob('*/vis_data/scalars.json')
    logged = {key for line in log.read_text().splitlines() for key in json.loads(line) if 'loss' in key}
    report = report_of(folder)
    drawn = {figure.caption for figures in report.curves.values() for figure in figures}
    assert logged <= drawn
    assert 'distill.holistic' in drawn  # its scores


def test_what_was_distilled_is_told_in_words(runs, structured):
    report_of(runs(structured))
    story = re.search(r'<section class="story".*?</section>', text_of(runs(structured)), re.S)[0]
    for text in (
        'EncoderDecoder with PSPHead on ResNetV1c 18 (0.23 M parameters) trained from random weights',
        'Pair-wise distillation (section 3.2.2)',
        'weight 10',
        'measured on 8 images',
    ):
        assert text in story


COLOURED = r'class="(?:gain )?(?:better|worse)">[+−]'


def test_a_fair_gain_has_an_interval_and_colour_where_that_is_on_one_side(runs, structured):
    report = report_of(runs(structured))
    (comparison,) = report.comparisons
    assert comparison.unequal == []
    gain = comparison.gains['mIoU']
    low, high = (float(end.replace('−', '-')) for end in gain.span.split(' to '))
    assert low <= float(gain.text.replace('−', '-')) <= high
    for one in (*comparison.gains.values(), *comparison.by_class.values()):
        ends = [float(end.replace('−', '-')) for end in one.span.split(' to ')] if one.span else [0]
        assert not (one.verdict and min(ends) < 0 < max(ends))
    assert 'Not a fair comparison' not in text_of(runs(structured))


def test_unequal_runs_are_named_and_nothing_is_coloured(copied):
    change(copied / 'plain', r'max_iters = 4|max_iters=4', 'max_iters=40')
    change(copied / 'plain', r'batch_size=2', 'batch_size=1')
    report = report_of(copied)
    (comparison,) = report.comparisons
    assert '4 iterations instead of 40 iterations' in comparison.unequal
    assert 'batches of 2 instead of 1 images' in comparison.unequal
    page = text_of(copied)
    assert 'Not a fair comparison' in page
    assert '4 iterations instead of 40 iterations' in page
    assert not re.search(COLOURED, page)
    assert 'not a fair comparison: ' in report.summary()[-1]


def test_as_much_time_stands_beside_as_many_steps(copied):
    shutil.copytree(copied / 'plain', copied / 'longer')
    change(copied / 'longer', r'max_iters = 4|max_iters=4', 'max_iters=3')
    report = report_of(copied, plain_same_time=copied / 'longer')
    assert [one.title for one in report.entrants][1:3] == ['plain student', 'plain student, same time']
    same_steps, same_time = report.comparisons
    assert same_steps.against is report.plain
    assert same_time.against is report.same_time
    assert same_time.unequal == []  # that it trains for longer is meant
    assert 'mIoU against the plain student of as much time' in text_of(copied)


def test_the_page_needs_nothing_else(runs, structured):
    report_of(runs(structured))
    page = text_of(runs(structured))
    assert not re.findall(r'(?:src|href)="(?!data:image/)', page)
    assert not re.findall(r'url\(|@import|<script [^>]|fetch\(|import\(', page)


def test_it_is_the_same_page_from_another_folder(copied, monkeypatch):
    """Nothing but the folders and the times differ."""
    monkeypatch.chdir(copied)
    write_report('report.html', ['distilled'], 'plain', 'teacher', say=lambda text: None)
    assert 'data:image/jpeg' in (copied / 'report.html').read_text()


def test_without_a_plain_student_nothing_is_called_a_gain(copied):
    report = report_of(copied, plain=None)
    assert report.faults == ['no plain student was given, so nothing tells what distillation gained']
    assert 'against plain' not in text_of(copied)
    assert report.predictions


def test_the_teacher_is_found_in_the_config_of_the_distillation(copied):
    report = report_of(copied, teacher=None)
    assert report.entrants[0].title == 'teacher'
    assert report.entrants[0].evaluation.metrics['mIoU'] > 0
    assert report.faults == []


def test_the_teacher_is_measured_on_the_images_that_it_saw_when_it_taught(copied, tmp_path):
    config = Config.fromfile(next((copied / 'teacher').glob('*.py')))
    config.val_dataloader.dataset.data_root = 'nowhere/'
    config.dump(tmp_path / 'elsewhere.py')
    change(copied / 'distilled', r"config=\s*'[^']*'", f"config='{tmp_path}/elsewhere.py'")
    there = report_of(copied, teacher=None).entrants[0]
    assert there.evaluation == report_of(copied).entrants[0].evaluation
    assert not there.logged


def test_a_teacher_that_is_gone_is_told_and_the_rest_shown(copied):
    change(copied / 'distilled', r"config=\s*'[^']*'", "config='nowhere.py'")
    report = report_of(copied, teacher=None)
    assert any(fault.startswith('teacher: its config or weights cannot be read') for fault in report.faults)
    assert [entrant.title for entrant in report.entrants] == ['plain student', 'distilled student']
    assert report.energies


def test_a_teacher_that_is_no_model_of_openmmlab_is_told_and_the_rest_shown(copied):
    (file,) = (copied / 'distilled').glob('*.py')
    config = Config.fromfile(file)
    config.model.teacher = dict(type='kddense.ModuleTeacher', module=dict(type='torchvision.models.resnet18'))
    config.dump(file)
    report = report_of(copied, teacher=None)
    expected = 'teacher: a kddense.ModuleTeacher is no model of OpenMMLab and not shown; give the work_dir of one'
    assert expected in report.faults
    assert [entrant.title for entrant in report.entrants] == ['plain student', 'distilled student']
    assert report.energies


def test_runs_without_a_log_or_a_checkpoint_are_told_and_the_rest_shown(copied):
    shutil.rmtree(next((copied / 'plain').glob('*/vis_data')))
    for checkpoint in (copied / 'distilled').glob('*.pth'):
        checkpoint.unlink()
    report = report_of(copied)

    assert any(fault.startswith('plain student:') and 'no log' in fault for fault in report.faults)
    assert any(fault.startswith('distilled student:') and 'no checkpoint' in fault for fault in report.faults)
    teacher, plain, distilled = report.entrants
    assert plain.evaluation.metrics['mIoU'] > 0
    assert not plain.logged
    assert distilled.logged  # from the log, for want of a checkpoint
    assert report.comparisons[0].gains['mIoU'].text == '', 'they may be of other images'
    assert distilled.costs is None
    assert teacher.costs is not None
    assert [figure.caption for figure in report.predictions[0][1]] == ['ground truth', 'teacher', 'plain student']
    page = text_of(copied)
    assert 'What is missing here' in page
    assert 'those of the last validation in the log' in page


def test_images_that_are_gone_are_told_and_the_log_stands_in(copied):
    for role in ('teacher', 'plain', 'distilled'):
        change(copied / role, r"data_root='[^']*'", "data_root='/nowhere/'")
    report = report_of(copied)
    assert all(entrant.logged for entrant in report.entrants)
    assert report.predictions == []
    assert sum('could not be measured on the val images' in fault for fault in report.faults) == 3
    assert report.curves


def test_nan_in_the_log_is_told(copied):
    (log,) = (copied / 'distilled').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1]['distill.pair.loss'] = float('nan')
    log.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    report = report_of(copied)
    (fault,) = report.faults
    assert fault.startswith('distilled student: distill.pair.loss is NaN or infinite in 1 of')


def test_folders_that_do_not_exist_are_told(tmp_path):
    report = write_report(
        tmp_path / 'page' / 'report.html', [tmp_path / 'a'], tmp_path / 'b', tmp_path / 'c', say=print
    )
    assert [fault.rpartition(' ')[2] for fault in report.faults] == [str(tmp_path / name) for name in 'cba']
    assert 'What is missing here' in (tmp_path / 'page' / 'report.html').read_text()


def test_several_distillations_stand_side_by_side(copied):
    shutil.copytree(copied / 'distilled', copied / 'other')
    report = report_of(copied, distilled=[copied / 'distilled', copied / 'other'])
    assert [entrant.title for entrant in report.entrants][2:] == ['distilled', 'other']
    assert len({entrant.colour for entrant in report.entrants}) == 4


def test_work_dirs_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / name / 'distilled' for name in 'ab']
    report = write_report(tmp_path / 'report.html', folders, say=print)
    assert [entrant.title for entrant in report.entrants] == list(map(str, folders))


def test_a_run_that_is_no_distillation_is_told(copied):
    report = report_of(copied, distilled=[copied / 'plain'], plain=None, teacher=None)
    assert 'distilled student: its config names no teacher to show beside it' in report.faults
    assert [entrant.title for entrant in report.entrants] == ['distilled student']
    assert report.energies == []


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(split='train'), "split must be one of val, test, got 'train'"),
        (dict(images=0), 'images must be at least 1'),
    ],
)
def test_arguments_that_do_not_fit_are_told(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        report_of(tmp_path, **options)


def test_a_page_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file'):
        write_report(tmp_path / 'file' / 'report.html', [tmp_path / 'a'], say=print)


def test_an_old_page_stays_if_the_new_one_fails(runs, structured, monkeypatch):
    folder = runs(structured)
    (folder / 'report.html').write_text('old')
    monkeypatch.setattr('kddense.report.report.render', lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report_of(folder)
    assert text_of(folder) == 'old'


def test_the_script_writes_it_and_says_where(runs, structured, python, tmp_path):
    folder, out = runs(structured), tmp_path / 'mine.html'
    roles = [argument for role in ('teacher', 'plain', 'distilled') for argument in (f'--{role}', folder / role)]
    command = [python, REPOSITORY / 'tools' / 'report.py', *roles, '--out', out, '--images', '1']
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    *told, last = done.stdout.splitlines()
    assert last == f'the report is {out}'
    assert [line.split('  ')[0] for line in told[-3:]] == ['teacher', 'plain student', 'distilled student']
    assert told[0] == 'teacher: val batch 1 of 8'
    assert f'--out {out}' in out.read_text()


@pytest.mark.parametrize('width', [390, 1280], ids=['phone', 'desk'])
@pytest.mark.parametrize('name', FAMILIES)
def test_a_browser_shows_every_picture(name, width, request, runs, browser, tmp_path):
    folder = runs(request.getfixturevalue(name))
    report_of(folder)
    browser.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride', dict(width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    )
    browser.get((folder / 'report.html').as_uri())
    loaded = browser.execute_script(
        'return [...document.querySelectorAll("main img")].map(i => i.complete && i.naturalWidth > 0)'
    )
    shown = browser.execute_script(
        'return [...document.querySelectorAll("main img")].map(i => i.getBoundingClientRect().width)'
    )
    page_width = browser.execute_script('return document.documentElement.scrollWidth')
    errors = [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE']

    assert len(loaded) > 15
    assert all(loaded)
    assert min(shown) > 120
    assert page_width <= width  # nothing sticks out at the side
    assert errors == []
    browser.execute_script("document.querySelector('.picture').click()")
    assert browser.execute_script(
        "const d = document.querySelector('dialog'); return d.open && d.querySelector('img').naturalWidth > 0"
    )
    browser.execute_script("document.querySelector('dialog').click()")
    assert not browser.execute_script("return document.querySelector('dialog').open")
    assert browser.save_screenshot(str(tmp_path / 'page.png'))
    assert (tmp_path / 'page.png').stat().st_size > 10_000
