"""Every way to train that is not a loss survives a SIGKILL bit for bit: all of them as links of one programme."""

from __future__ import annotations

HINT = dict(type='kddense.FeatureObjective', tap='backbone', levels=[3], connector=dict(type='kddense.Connector'))
STAGES = [dict(until=0.5, losses=['hint'], rest='.*head'), dict(losses=['task', 'soft'], rest='backbone')]


def learning(objectives=None, **options):
    changes = {f'model.objectives.{name}': one for name, one in (objectives or {}).items()}
    return dict(config='distilled', teacher='teacher', options={**changes, **options})


PIXELS = dict(type='kddense.PixelWiseObjective', weight=1.0)
BAN = dict(type='kddense.BANObjective', mode='dkpp')
PRIVILEGED = dict(type='kddense.PrivilegedObjective')
DEGRADED = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='kddense.DegradeForStudent'),
    dict(type='PackSegInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'teacher_img')),
]


def test_a_kill_in_any_link_of_any_programme_changes_nothing(toy, monkeypatch):
    student = toy.task.plain().model.to_dict()
    mutual = dict(type='kddense.MutualObjective', peer=str(toy.folder / 'teacher.py'), compare=PIXELS)
    mean = dict(type='kddense.AverageTeacher', config=dict(model=student), momentum=0.1)
    members = dict(type='kddense.EnsembleTeacher', members=[dict(link='teacher'), dict(link='plain')], by='error')
    degraded = {'train_dataloader.dataset.pipeline': DEGRADED}
    route = dict(folder='{teacher.work_dir}', anchors=2, how='greedy', batches=1)
    links = dict(
        teacher=dict(config='teacher'),
        plain=dict(config='student'),
        assistant=learning()
        | dict(student=dict(between=[str(toy.folder / f'{size}.py') for size in ('student', 'teacher')])),
        born_again=learning(dict(ban=BAN)) | dict(teacher='plain'),
        early=learning({'soft.weight': dict(value=1.0, stop=0.6)}),
        while_it_helps=learning({'soft.weight': dict(value=1.0, stop_below=1.0, every=1, patience=2)}),
        privileged=learning(dict(imitation=PRIVILEGED), **degraded)
        | dict(teacher=dict(link='teacher', image='teacher_img')),
        ensemble=learning(dict(hint=dict(PIXELS, _delete_=True))) | dict(teacher=members),
        share=learning({'soft.weight': dict(value='10%', every=3)}),
        stages=learning(**{'default_hooks.stages': dict(type='kddense.StagesHook', stages=STAGES)}),
        route=learning(**{'default_hooks.route': dict(type='kddense.RouteHook', route=route, restart=True)}),
        mutual=learning(dict(mutual=mutual), **{'default_hooks.peer': dict(type='kddense.PeerHook')}),
        own=learning(dict(own=dict(type='kddense.SelfAttentionObjective'))),
        mean=learning(**{'default_hooks.average': dict(type='kddense.AverageTeacherHook')}) | dict(teacher=mean),
    )
    toy.assert_survives(links, monkeypatch)
