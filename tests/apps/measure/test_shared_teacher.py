"""Many students, one teacher: whose answers are kept where, what the runs share, what is refused."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from kddense.apps.measure import main
from kddense.apps.measure.plan import Job, Plan
from kddense.apps.measure.runs import run
from kddense.apps.measure.shared_teacher import share_teacher
from kddense.errors import ConfigError

TEACHER = dict(config='teacher.py', checkpoint='teacher.pth')


def config_of(teacher, sampler='InfiniteSampler'):
    model = dict(type='kddense.Distiller', student=dict(), teacher=teacher, objectives={})
    loader = dict(batch_size=2, sampler=dict(type=sampler, shuffle=True), dataset=dict(type='Images', pipeline=[]))
    return Config(dict(model=model, train_dataloader=loader))


def shared(*arguments, tmp_path):
    config = config_of(*arguments)
    share_teacher(config, 3, tmp_path)
    return config


@pytest.mark.parametrize(
    'sampler, expected',
    [('InfiniteSampler', 'kddense.InfiniteVariantSampler'), ('DefaultSampler', 'kddense.VariantSampler')],
)
def test_images_are_drawn_in_variants_and_answers_kept(sampler, expected, tmp_path):
    config = shared(TEACHER, sampler, tmp_path=tmp_path)

    loader, teacher = config.train_dataloader, config.model.teacher
    assert loader.sampler == dict(type=expected, shuffle=True)
    assert loader.dataset == dict(type='kddense.VariantDataset', variants=3, dataset=dict(type='Images', pipeline=[]))
    assert {key: teacher[key] for key in TEACHER} == TEACHER
    assert teacher.type == 'kddense.CachedTeacher'
    assert teacher.folder.startswith(str(tmp_path))
    assert 'kddense' in config.custom_imports['imports']


@pytest.mark.parametrize('place', ['custom_hooks', 'default_hooks'])
def test_images_without_labels_are_drawn_in_variants_too(place, tmp_path):
    config = config_of(TEACHER)
    hook = dict(type='kddense.UnlabelledImagesHook', dataset=dict(type='Unlabelled'))
    config[place] = [hook] if place == 'custom_hooks' else dict(unlabelled=hook, checkpoint=None)
    share_teacher(config, 3, tmp_path)
    (found,) = config.custom_hooks if place == 'custom_hooks' else [config.default_hooks.unlabelled]

    assert found.dataset == dict(type='kddense.VariantDataset', variants=3, dataset=dict(type='Unlabelled'))
    assert config.model.teacher.folder != shared(TEACHER, tmp_path=tmp_path).model.teacher.folder


def test_a_folder_is_of_one_teacher_and_one_set_of_images(tmp_path):
    several = dict(
        large=TEACHER, other=dict(TEACHER, precision='bf16'), own=dict(type='kddense.ModuleTeacher', module='x')
    )
    teachers = shared(several, tmp_path=tmp_path).model.teacher
    alone = shared(TEACHER, tmp_path=tmp_path).model.teacher

    assert teachers.large.folder == alone.folder
    assert len({one.folder for one in teachers.values()}) == 3
    assert teachers.own.teacher == several['own']


@pytest.mark.parametrize('place', ['config', 'model', 'student'])
def test_students_that_prepare_images_otherwise_share_no_folder(place, tmp_path):
    folders = []
    for mean in (0.0, 0.0, 1.0):
        config = config_of(TEACHER)
        holder = dict(config=config, model=config.model, student=config.model.student)[place]
        holder.data_preprocessor = dict(type='DetDataPreprocessor', mean=[mean])
        share_teacher(config, 3, tmp_path)
        folders.append(config.model.teacher.folder)
    assert folders[0] == folders[1] != folders[2]


@pytest.mark.parametrize('place', ['custom_hooks', 'default_hooks'])
def test_students_in_another_memory_format_share_no_folder(place, tmp_path):
    folders = []
    for has in (False, True):
        config = config_of(TEACHER)
        hook = dict(type='kddense.ChannelsLastHook')
        if has:
            config[place] = [hook] if place == 'custom_hooks' else dict(fast=hook, checkpoint=None)
        share_teacher(config, 3, tmp_path)
        folders.append(config.model.teacher.folder)
    assert folders[0] != folders[1]


def test_what_keeps_its_answers_already_stays(tmp_path):
    teacher = dict(TEACHER, type='kddense.CachedTeacher', folder='mine')
    config = shared(teacher, tmp_path=tmp_path)
    once = Config(config.to_dict())
    share_teacher(config, 3, tmp_path)

    assert config.model.teacher == teacher
    assert config.train_dataloader == once.train_dataloader


def test_a_plain_student_sees_the_same_images(tmp_path):
    config = Config(dict(model=dict(type='Detector'), train_dataloader=config_of(TEACHER).train_dataloader))
    share_teacher(config, 3, tmp_path)

    assert config.model == dict(type='Detector')
    assert config.train_dataloader == shared(TEACHER, tmp_path=tmp_path).train_dataloader


def test_another_sampler_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'train_dataloader.sampler.type: .* InfiniteSampler, got ClassAwareSampler'):
        shared(TEACHER, 'ClassAwareSampler', tmp_path=tmp_path)


@pytest.mark.parametrize('without_labels', [False, True])
def test_the_second_student_asks_nothing(segmentor, tmp_path, monkeypatch, quick_processes, without_labels):
    iterations = dict(train_cfg__max_iters=2, train_cfg__val_interval=3, train_dataloader__dataset__indices=2)
    if without_labels:
        images = dict(segmentor.plain().train_dataloader.dataset, indices=2)
        del images['pipeline']
        iterations['default_hooks__unlabelled'] = dict(type='kddense.UnlabelledImagesHook', dataset=images)
    segmentor.plain(**iterations).dump(tmp_path / 'plain.py')
    segmentor.distilled(**iterations).dump(tmp_path / 'distilled.py')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    plan = Plan('plain.py', ('distilled.py',), (0, 1), tmp_path / 'runs', 'mmseg', variants=2)

    run(plan, Job('distilled.py', 'distilled', 0))
    (answers,) = (tmp_path / 'runs' / 'answers').iterdir()
    written = {file: file.stat().st_mtime_ns for file in answers.rglob('*') if file.is_file()}
    run(plan, Job('distilled.py', 'distilled', 1))

    assert any(file.suffix == '.safetensors' for file in written)
    assert written == {file: file.stat().st_mtime_ns for file in answers.rglob('*') if file.is_file()}


def test_a_step_has_no_one_time(capsys):
    with pytest.raises(SystemExit):
        main(['--plain', 'plain.py', '--work-dir', 'runs', '--share-teacher', '2', '--same-time'])
    assert '--same-time: with --share-teacher the first run asks the teacher' in capsys.readouterr().err
