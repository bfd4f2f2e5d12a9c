"""kddense distill: from two configs to a report, again, and what it refuses."""

from __future__ import annotations

import re

import pytest
import torch
from mmengine.config import Config

from kddense.apps.distill import DistillError, command, quality
from kddense.apps.distill import distillation as distillation_module
from kddense.configs import read_recipe
from kddense.report.metrics import Metric

from ...helpers.toy_task import losses_of

EXPECTED = {
    'detector': ('two-stage detector', 'chen2017'),
    'one_stage': ('one-stage detector', 'pkd_one_stage'),
    'query_detector': ('detector of the DETR family', 'detrdistill'),
    'mask_detector': ('two-stage detector', 'chen2017'),
    'mask_segmentor': ('model of the MaskFormer family', 'mask_queries'),
    'segmentor': ('segmentor', 'cankd'),
    'depth': ('depth estimator', 'ail_depth'),
}


@pytest.mark.parametrize('name', EXPECTED)
def test_it_writes_a_config_for_each_family(name, request, distillation):
    task = request.getfixturevalue(name)
    made = distillation(task, test_teacher=False)
    choice = made.prepare()

    family, recipe = EXPECTED[name]
    assert choice.recipe == recipe
    assert family in made.said[0]
    assert family in made.said[1]
    plain, distilled = (Config.fromfile(made.folder.path / file) for file in ('plain.py', 'distilled.py'))
    assert plain.model == task.plain().model
    assert distilled.model.student == plain.model
    assert distilled.model.teacher == task.teacher
    assert distilled.train_dataloader == plain.train_dataloader
    beside = {'masks'} if name == 'mask_detector' else set()
    assert distilled.model.objectives.keys() == read_recipe(recipe).objectives.keys() | beside
    assert any(line.startswith('  beside it masks; Mask R-CNN: +') for line in made.said) == bool(beside)
    assert not task.build(plain.model).state_dict().keys() ^ task.build(distilled.model).state_dict().keys()


@pytest.mark.parametrize(
    'name, recipe', [('one_stage', 'reviewkd'), ('structured', 'skd'), ('detector', 'chen2017'), ('depth', 'ail_depth')]
)
def test_images_without_labels_stand_in_each_batch(name, recipe, request, distillation, toy_data, tmp_path):
    task = request.getfixturevalue(name)
    images = [str(toy_data / 'images'), str(toy_data / 'images' / '1.png')]
    options = {'train_cfg.max_epochs' if task.package == 'mmdet' else 'train_cfg.max_iters': 1}
    made = distillation(task, test_teacher=False, unlabelled=images, options=options)

    assert made.prepare().recipe == recipe
    assert 'images without labels: 9, in each batch as many as with labels' in made.said
    told = [line for line in made.said if line.startswith('warning: 8 of the images without labels are ')]
    assert [line.split()[8] for line in told] == ['validation', 'test']
    plain, distilled = (Config.fromfile(made.folder.path / file) for file in ('plain.py', 'distilled.py'))
    added = dict(type='kddense.UnlabelledImages', images=images)
    assert distilled.default_hooks.unlabelled == dict(type='kddense.UnlabelledImagesHook', ratio=1, dataset=added)
    assert 'unlabelled' not in plain.default_hooks
    losses = losses_of(task.train(distilled, tmp_path / 'trained').message_hub)
    assert any(key.startswith('distill.') for key in losses)
    with pytest.raises(ValueError, match='with another .*set of images without labels: choose another'):
        distillation(task, test_teacher=False, options=options, work_dir=made.folder.path).prepare()


@pytest.mark.parametrize(
    'name, images, expected',
    [
        ('segmentor', 'nowhere', "^--unlabelled: there is no image in '.*nowhere'"),
        ('query_detector', 'nowhere', '^--unlabelled: a detector of the DETR family takes no images without labels'),
    ],
)
def test_images_without_labels_that_cannot_be_used_are_told(name, images, expected, request, distillation):
    made = distillation(request.getfixturevalue(name), test_teacher=False, unlabelled=[images])
    with pytest.raises((ValueError, OSError), match=expected):
        made.prepare()
    assert not made.folder.path.exists()


def test_beside_a_recipe_that_is_named_nothing_stands(distillation, mask_detector):
    made = distillation(mask_detector, test_teacher=False, recipe='chen2017')
    made.prepare()
    assert 'masks' not in Config.fromfile(made.folder.path / 'distilled.py').model.objectives


def test_what_two_models_need_is_written(distillation, query_detector):
    """A decoder of another depth is compared with the teacher's last layer."""
    options = {'model.decoder.num_layers': 3}
    made = distillation(query_detector, test_teacher=False, recipe='detrdistill', options=options)
    made.prepare()
    objectives = Config.fromfile(made.folder.path / 'distilled.py').model.objectives
    assert {name: one.get('layers') for name, one in objectives.items()} == dict(
        detrdistill='last', target_aware=None, query_prior='last'
    )


def test_one_call_from_two_configs_to_a_report(distillation, detector, quick_processes, monkeypatch, capfd):
    options = {'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': 2}
    arguments = dict(compare=True, test_teacher=False, options=options)
    made = distillation(detector, **arguments)
    report = made.run()

    assert report.faults == []
    assert [entrant.title for entrant in report.entrants] == ['teacher', 'plain student', 'distilled student']
    assert not any(entrant.logged for entrant in report.entrants)  # all were tested, with plain configs
    assert '<html' in made.page.read_text()
    folder = made.folder.path
    assert (folder / 'distilled' / 'command.txt').read_text().startswith('kddense train ')
    plain, distilled = (torch.load(folder / one / 'epoch_1.pth', weights_only=False) for one in ('plain', 'distilled'))
    assert plain['state_dict'].keys() == distilled['state_dict'].keys()
    assert 'distill.roi.loss_cls' in capfd.readouterr().out

    monkeypatch.setattr('subprocess.run', None)  # nothing is trained twice
    monkeypatch.setattr(distillation_module, 'write_report', lambda out, *folders, **_: folders)
    again = distillation(detector, made.student, **{**arguments, 'work_dir': folder})
    assert again.run() == ([folder / 'distilled'], folder / 'plain')
    assert sum('is trained, in' in line for line in again.said) == 2

    other = distillation(detector, made.student, **{**arguments, 'work_dir': folder, 'recipe': 'pkd'})
    with pytest.raises(ValueError, match='holds a distillation with another recipe: choose another --work-dir'):
        other.run()


def test_what_was_cut_off_goes_on(distillation, detector, monkeypatch):
    made = distillation(detector, test_teacher=False)
    commands = []
    failed = type('Process', (), dict(returncode=1))
    monkeypatch.setattr('subprocess.run', lambda command: commands.append(command) or failed)
    with pytest.raises(DistillError, match='the training of the distilled student stopped with the error above'):
        made.run()
    (made.folder.path / 'distilled' / 'last_checkpoint').write_text('epoch_1.pth')
    distilled = made.folder.path / 'distilled.py'
    distilled.write_text(f'{distilled.read_text()}# mine\n')
    with pytest.raises(DistillError):
        distillation(detector, made.student, test_teacher=False, work_dir=made.folder.path).run()

    assert ['--resume' in command for command in commands] == [False, True]
    assert distilled.read_text().endswith('# mine\n')


def test_the_teacher_is_tested_first(distillation, detector, monkeypatch):
    made = distillation(detector)
    with pytest.raises(
        ValueError, match=r"the teacher has mAP 0.\d on the student's validation images, no better than chance"
    ):
        made.prepare()
    assert not made.folder.path.exists()


def test_a_teacher_that_finds_nothing_is_told(distillation, detector, monkeypatch):
    """mmdet's evaluators measure nothing where there is no box."""
    monkeypatch.setattr(distillation_module, 'tested', lambda *_: {})
    with pytest.raises(ValueError, match="the teacher finds nothing at all on the student's validation images"):
        distillation(detector).prepare()


def test_a_teacher_of_other_labels_is_not_tested_by_its_own(distillation, detector, monkeypatch):
    monkeypatch.setattr(distillation_module, 'tested', lambda *_: {'coco/bbox_mAP': 0.0})
    classes = range(len(detector.plain().train_dataloader.dataset.metainfo.classes))
    made = distillation(detector, options={'model.teacher.class_map': [*classes][::-1]})
    made.prepare()
    assert any('is not tested: model.teacher.class_map says' in line for line in made.said)
    with pytest.raises(ValueError, match='no better than chance'):
        distillation(detector, options={'model.teacher.class_map': [*classes]}).prepare()


@pytest.mark.parametrize('own, better', [(0.3, True), (0.5, False)])
def test_the_teacher_must_beat_the_students_checkpoint(own, better, distillation, detector, tmp_path, monkeypatch):
    model = detector.build(detector.plain().model)
    torch.save(model.state_dict(), tmp_path / 'student.pth')
    scores = {'the teacher': 0.4, 'the student': own}
    monkeypatch.setattr(
        distillation_module, 'tested', lambda model, config, device, say, what: {'coco/bbox_mAP': scores[what]}
    )
    made = distillation(detector, student_checkpoint=str(tmp_path / 'student.pth'))
    if better:
        made.prepare()
        assert made.folder.state['teacher'] == {'coco/bbox_mAP': 0.4}
        return
    with pytest.raises(ValueError, match=r"has mAP 40.0 .* no better than the student's checkpoint \(50.0\)"):
        made.prepare()


def test_a_teacher_is_shown_the_students_images_as_it_wants_them(detector, monkeypatch):
    """By its own data preprocessor: with the student's it would be shown others."""
    config = detector.plain()
    teacher = Config.fromfile(detector.teacher['config']).model
    teacher.data_preprocessor.mean = [0.0, 0.0, 0.0]
    model = detector.build(teacher)
    seen = []
    monkeypatch.setattr(model, 'predict', lambda inputs, samples: seen.append(inputs) or samples)
    with pytest.raises(KeyError, match='pred_instances'):  # nothing was predicted
        quality.tested(model, config, 'cpu', lambda text: None, 'the teacher')
    assert seen[0].min() >= 0


@pytest.mark.parametrize('key, expected', [('coco/bbox_mAP', 0.01), ('mIoU', 25.0), ('abs_rel', 0.5), ('rmse', None)])
def test_chance(key, expected, segmentor, depth):
    task = depth if key in ('abs_rel', 'rmse') else segmentor
    task.build(task.plain().model)
    found = quality.chance(Metric.of(key), task.plain())
    assert found == (None if expected is None else pytest.approx(expected, abs=0.3))


REFUSED = {
    'val_dataloader': 'has no val_dataloader, val_evaluator, val_cfg: without validation data nothing tells',
    'optim_wrapper': 'has no optim_wrapper with an optimizer',
    'train_dataloader': 'has no train_dataloader',
}


@pytest.mark.parametrize('part', REFUSED)
def test_a_student_that_could_not_be_trained_is_refused(part, distillation, detector, files):
    file = files(detector)
    config = Config.fromfile(file)
    for key in [part, 'val_evaluator', 'val_cfg'] if part == 'val_dataloader' else [part]:
        config.pop(key)
    config.dump(file)
    with pytest.raises(ValueError, match=REFUSED[part]):
        distillation(detector, file).prepare()


def test_a_student_that_distils_already_is_refused_with_its_plain_one(distillation, detector, files):
    plain = files(detector)
    distilled = plain.with_name('distilled.py')
    distilled.write_text(
        "_base_ = './student.py'\nmodel = dict(_delete_=True, type='kddense.Distiller', student=_base_.model)\n"
    )
    with pytest.raises(ValueError, match=f'distils already: give its plain student, {plain}'):
        distillation(detector, distilled).prepare()


@pytest.mark.parametrize(
    'key, value, expected',
    [
        ('type', 'FasterRCN', 'KeyError .*FasterRCN is not in the mmdet::model registry'),
        ('backbone.depth', 17, r'KeyError .*invalid depth 17 for resnet'),
        ('neck.num_outs', 1, 'AssertionError'),
    ],
)
def test_a_student_that_cannot_be_built_is_one_sentence(key, value, expected, distillation, detector, files):
    with pytest.raises(ValueError, match=f'the model of .*student.py cannot be built: {expected}'):
        distillation(detector, options={f'model.{key}': value}).prepare()


def test_what_is_absent_is_named(distillation, detector):
    with pytest.raises(FileNotFoundError, match=r"teacher.checkpoint: there is no file '.*absent.pth'"):
        distillation(detector, checkpoint='absent.pth').prepare()
    with pytest.raises(FileNotFoundError, match=r"teacher.config: there is no file '.*absent.py'"):
        distillation(detector, config='absent.py').prepare()
    with pytest.raises(FileNotFoundError, match=r"student.config: there is no file '.*absent.py'"):
        distillation(detector, 'absent.py').prepare()
    with pytest.raises(ValueError, match="there is no recipe 'chen207'; did you mean 'chen2017'"):
        distillation(detector, recipe='chen207', test_teacher=False).prepare()


def test_a_teacher_of_another_family_is_refused(distillation, detector, segmentor):
    with pytest.raises(ValueError, match='no recipe is known for a two-stage detector with a segmentor for a teacher'):
        distillation(detector, **segmentor.teacher).prepare()


def test_a_teacher_of_other_classes_is_refused_by_what_compares_them(distillation, detector, files):
    names = ('disc', 'square', 'star')
    changed = {f'{part}_dataloader__dataset__metainfo__classes': names for part in ('train', 'val', 'test')}
    with pytest.raises(ValueError, match=r"objectives.roi: the student's classes are not those of the teacher"):
        distillation(detector, files(detector, **changed), test_teacher=False).prepare()


def test_a_smaller_teacher_is_warned_of(distillation, detector, files):
    student = detector.teacher['config']
    plain = files(detector)
    torch.save(detector.build(detector.plain().model).state_dict(), plain.with_suffix('.pth'))
    made = distillation(
        detector, student, config=str(plain), checkpoint=str(plain.with_suffix('.pth')), test_teacher=False
    )
    made.prepare()
    assert any(re.match(r'warning: the teacher has 0.22 M parameters, the student 0.77 M', line) for line in made.said)


def test_a_folder_of_something_else_is_left_alone(distillation, detector, tmp_path):
    folder = tmp_path / 'other'
    folder.mkdir()
    (folder / 'epoch_12.pth').write_text('')
    with pytest.raises(ValueError, match='other holds something else: choose another --work-dir'):
        distillation(detector, work_dir=folder, test_teacher=False).prepare()
    assert [file.name for file in folder.iterdir()] == ['epoch_12.pth']


def test_the_command_ends_with_one_sentence(detector, files, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([str(files(detector)), '--teacher', detector.teacher['config'], 'absent.pth'])
    assert str(ended.value).startswith("error: teacher.checkpoint: there is no file '")
    assert '\n' not in str(ended.value)


def test_a_dry_run_of_the_command_trains_nothing(detector, files, tmp_path, toy_data, capsys, monkeypatch):
    monkeypatch.setattr('subprocess.run', None)
    teacher = [detector.teacher['config'], detector.teacher['checkpoint']]
    arguments = [str(files(detector)), '--teacher', *teacher, '--work-dir', str(tmp_path / 'w'), '--amp']
    arguments += ['--unlabelled', str(toy_data / 'images')]
    command.main([*arguments, '--no-teacher-test', '--dry-run'])
    said = capsys.readouterr().out
    assert 'the teacher is not tested, as --no-teacher-test says' in said
    assert 'images without labels: 8, in each batch as many as with labels' in said
    assert f'python -m torch.distributed.run --nproc_per_node=8 -m kddense train {tmp_path}' in said
    assert f'mmdet/.mim/tools/train.py {tmp_path}/w/distilled.py --work-dir {tmp_path}/w/distilled' in said
    assert Config.fromfile(tmp_path / 'w' / 'distilled.py').optim_wrapper.type == 'AmpOptimWrapper'
    assert sorted(file.name for file in (tmp_path / 'w').iterdir()) == ['distill.json', 'distilled.py', 'plain.py']
