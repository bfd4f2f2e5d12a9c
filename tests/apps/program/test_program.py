"""kddense program: links in order, once each, again where they changed, on after a kill; bad ones in one sentence."""

from __future__ import annotations

import itertools
import json
import re
import time

import pytest
from mmengine.config import Config

from kddense.apps.program.links import part_of, read_programme
from kddense.apps.program.run import run
from kddense.apps.program.versions import _teacher, versions_of

CHAIN = dict(
    teacher=dict(config='teacher'),
    student=dict(config='distilled', teacher='teacher', seed=1),
)


def chain(**changes):
    return {name: {**link, **changes.get(name, {})} for name, link in CHAIN.items()}


def test_a_link_learns_from_another_and_nothing_is_done_twice(toy, capsys):
    file = toy.write(chain())
    assert toy.run(file) == 0
    said = capsys.readouterr().out
    folders = {name: toy.last('work', name) for name in CHAIN}
    teacher = Config.fromfile(folders['student'] / 'config/link.py', import_custom_modules=False).model.teacher
    assert teacher.checkpoint == f'{folders["teacher"]}/iter_4.pth'
    assert teacher.config == f'{folders["teacher"]}/config/link.py'
    results = {name: json.loads((folder / 'result.json').read_text()) for name, folder in folders.items()}
    assert results['student']['learns_from'] == ['teacher']
    assert results['student']['seed'] == 1
    assert 0 <= results['student']['scores']['mIoU'] <= 100
    assert results['student']['parameters'] < results['teacher']['parameters']
    assert results['student']['minutes'] > 0
    assert re.search(r'student: mIoU [\d.]+, 0.\d\d M parameters, [\d.]+ min', said)
    page = (toy.folder / 'work/report.html').read_text()
    assert page.count('<figure>') == 2
    assert '<th>student</th><td>teacher</td>' in page
    before = {path: path.stat().st_mtime_ns for path in folders['student'].rglob('*') if path.is_file()}
    assert toy.run(file) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folders['student'].rglob('*') if path.is_file()}


def test_a_change_runs_what_it_touches_and_going_back_runs_nothing(toy, capsys):
    assert toy.run(toy.write(chain())) == 0
    first = toy.last('work', 'teacher'), toy.last('work', 'student')
    changed = toy.write(chain(student=dict(seed=2)), 'changed')
    assert toy.run(changed, 'work', '--dry-run') == 0
    said = capsys.readouterr().out
    assert f'teacher: is done, {toy.folder}/teacher.py in {first[0]}' in said
    assert 'student: learns from teacher, was changed, or what it learns from: runs again' in said
    versions = versions_of(read_programme(str(changed)), toy.folder / 'work')
    assert versions['teacher'].folder == first[0]
    assert versions['student'].folder != first[1]
    from_above = versions_of(read_programme(str(toy.write(chain(teacher=dict(seed=5)), 'above'))), toy.folder / 'work')
    assert from_above['student'].folder not in (first[1], versions['student'].folder), 'it hangs on the teacher'
    assert versions_of(read_programme(str(toy.write(chain()))), toy.folder / 'work')['student'].is_done
    (toy.folder / 'teacher.py').write_text((toy.folder / 'teacher.py').read_text().replace('lr=0.01', 'lr=0.02'))
    assert versions_of(read_programme(str(toy.write(chain()))), toy.folder / 'work')['student'].folder != first[1]


def test_seeds_make_pairs_and_a_table_with_a_row_of_the_same_time(toy, capsys):
    links = dict(
        teacher=dict(config='teacher', seed=0),
        plain=dict(config='student'),
        assistant=dict(config='distilled', teacher='teacher', student=str(toy.folder / 'teacher.py')),
        student=dict(config='distilled', teacher='assistant', options=dict(note='{assistant.checkpoint}')),
        longer=dict(config='student', same_time=['plain', 'student']),
        pretrain=dict(config='student', options=dict(test_evaluator=None)),
    )
    file = toy.write(links, seeds=[0, 1], plain='plain')
    programme = read_programme(str(file))
    assert set(programme.links) == {
        'teacher',
        *(f'{row}-{seed}' for row in links if row != 'teacher' for seed in (0, 1)),
    }
    assert programme.links['student-1'].needs == ('assistant-1',)
    assert programme.links['assistant-1'].needs == ('teacher',)
    assert programme.links['student-1'].options == dict(note='{assistant-1.checkpoint}')
    assert programme.links['longer-1'].needs == ('plain-1', 'student-1')
    versions = versions_of(programme, toy.folder / 'work')
    minutes = dict(zip(versions, itertools.repeat(1.0)))
    minutes.update({'plain-0': 2.0, 'assistant-0': 4.0, 'student-0': 3.0})
    scores = dict.fromkeys(versions, 30.0)
    scores.update({'student-0': 31.0, 'student-1': 31.5})
    for name, version in versions.items():
        longer = version.link.row == 'longer'
        wide = version.link.row in ('teacher', 'assistant')
        result = dict(link=name, row=version.link.row, learns_from=[], config='x', seed=version.link.seed, commands=[])
        measured = {} if version.link.row == 'pretrain' else dict(mIoU=scores[name])
        result |= dict(
            steps={0: 14, 1: 8}[version.link.seed] if longer else 4, scores=measured, parameters=9 if wide else 3
        )
        version.folder.mkdir(parents=True)
        (version.folder / 'result.json').write_text(json.dumps(result | dict(minutes=minutes[name])))
    assert versions['longer-0'].steps_in_that_time(versions) == 14, 'the assistant counts, the teacher does not'
    assert versions['longer-1'].steps_in_that_time(versions) == 8
    assert toy.run(file, 'work', '--json', 'measured.json') == 0
    table = json.loads((toy.folder / 'measured.json').read_text())
    (row,) = table['rows']
    assert (row['config'], row['paired_mean'], row['same_time']['paired_mean']) == ('student', 1.25, 1.25), (
        'of both seeds'
    )
    assert (table['plain_same_time']['steps'], table['plain_same_time']['steps_by_seed']) == (14, {'0': 14, '1': 8})
    assert 'steps_by_seed' not in row, 'all are as long'
    said = capsys.readouterr().out
    assert '| student' in said
    assert 'is absent' not in said, 'what is not tested is no row'


def test_what_is_done_so_far_is_reported_and_nothing_is_run(toy, capsys):
    links = dict(teacher=dict(config='teacher', seed=0), plain=dict(config='student'))
    links['student'] = dict(config='distilled', teacher='teacher')
    file = toy.write(links, seeds=[0, 1], plain='plain')
    versions = versions_of(read_programme(str(file)), toy.folder / 'work')
    for name, score in {'plain-0': 30.0, 'student-0': 31.0}.items():
        result = dict(
            link=name, row=versions[name].link.row, learns_from=[], config='x', seed=0, commands=[], minutes=1.0
        )
        versions[name].folder.mkdir(parents=True)
        (versions[name].folder / 'result.json').write_text(
            json.dumps(result | dict(steps=4, scores=dict(mIoU=score), parameters=3))
        )

    assert toy.run(file, 'work', '--report-only', '--json', 'so_far.json') == 1
    (row,) = json.loads((toy.folder / 'so_far.json').read_text())['rows']
    assert (row['config'], row['seeds'], row['paired_mean']) == ('student', [0], 1.0)
    assert 'the report is ' in capsys.readouterr().out
    assert 'plain-1' in (toy.folder / 'work/report.html').read_text(), 'named as missing'
    assert not versions['plain-1'].folder.exists()


def measured(toy, file, scores):
    """Play the results of links: a score and how long each was trained."""
    versions = versions_of(read_programme(str(file)), toy.folder / 'work')
    for name, (score, steps) in scores.items():
        link = versions[name].link
        result = dict(link=name, row=link.row, learns_from=[], config='x', seed=link.seed, commands=[], minutes=1.0)
        versions[name].folder.mkdir(parents=True)
        text = json.dumps(result | dict(steps=steps, scores=dict(mIoU=score), parameters=3))
        (versions[name].folder / 'result.json').write_text(text)


def test_each_row_has_the_plain_student_of_its_own_time(toy):
    links = dict(plain=dict(config='student'))
    links |= {name: dict(config='distilled', options=dict(note=name)) for name in ('soft', 'structured')}
    links['longer'] = dict(config='student', same_time=['plain', 'soft'])
    links['longer_still'] = dict(config='student', same_time=['plain', 'structured'])
    file = toy.write(links, seeds=[0], plain='plain')
    scores = {'plain-0': (50.0, 4), 'soft-0': (52.0, 4), 'structured-0': (54.0, 4)}
    measured(toy, file, {**scores, 'longer-0': (51.0, 5), 'longer_still-0': (56.0, 9)})

    assert toy.run(file, 'work', '--report-only', '--json', 'measured.json') == 0

    table = json.loads((toy.folder / 'measured.json').read_text())
    assert {row['config']: row['same_time']['paired_mean'] for row in table['rows']} == {
        'soft': 1.0,
        'structured': -2.0,
    }


def test_a_recorded_table_keeps_its_names_and_no_other_file_is_written_over(toy):
    links = dict(plain=dict(config='student'), student=dict(config='distilled'))
    file = toy.write(links, seeds=[0], plain='plain')
    (toy.folder / 'notes.txt').write_text('mine')
    with pytest.raises(SystemExit, match='notes.txt is no JSON'):
        toy.run(file, 'work', '--report-only', '--json', 'notes.txt')
    assert (toy.folder / 'notes.txt').read_text() == 'mine'

    assert toy.run(file, 'work', '--report-only', '--json', 'measured.json') == 1
    assert not (toy.folder / 'measured.json').exists(), 'nothing is measured yet'

    measured(toy, file, {'plain-0': (50.0, 4), 'student-0': (52.0, 4)})
    assert toy.run(file, 'work', '--report-only', '--json', 'measured.json') == 0
    table = json.loads((toy.folder / 'measured.json').read_text())
    table['rows'][0]['title'] = 'Mine'
    (toy.folder / 'measured.json').write_text(json.dumps(table))
    assert toy.run(file, 'work', '--report-only', '--json', 'measured.json') == 0
    assert json.loads((toy.folder / 'measured.json').read_text())['rows'][0]['title'] == 'Mine'


def test_a_part_is_run_with_what_it_learns_from_and_nothing_else(toy, capsys):
    links = dict(teacher=dict(config='teacher', seed=0), plain=dict(config='student'))
    links['assistant'] = dict(config='distilled', teacher='teacher')
    links['student'] = dict(config='distilled', teacher='assistant')
    links['longer'] = dict(config='student', same_time=['plain', 'student'])
    file = toy.write(links, seeds=[0, 1], plain='plain')
    programme = read_programme(str(file))
    assert part_of(programme, ['student-1', 'teacher']) == ['teacher', 'assistant-1', 'student-1']
    assert set(part_of(programme, ['student'])) == {
        'teacher',
        *(f'{row}-{seed}' for row in ('assistant', 'student') for seed in (0, 1)),
    }
    assert part_of(programme, ['longer-0'])[-1] == 'longer-0'
    assert len(part_of(programme, ['longer-0'])) == 5
    assert toy.run(file, 'work', '--links', 'plain-1') == 0
    assert [path.name for path in (toy.folder / 'work').iterdir() if path.is_dir()] == ['plain-1']
    assert toy.run(file, 'work', '--links', 'plain-1', '--report-only') == 0
    capsys.readouterr()
    assert toy.run(file, 'work', '--links', 'plain', '--dry-run') == 0
    assert [line.partition(':')[0] for line in capsys.readouterr().out.splitlines()] == ['plain-0', 'plain-1']
    with pytest.raises(
        SystemExit, match=re.escape("--links: there is no link 'studnt'; the nearest names are 'student'")
    ):
        toy.run(file, 'work', '--links', 'studnt')


def test_a_file_that_is_named_counts_by_what_is_in_it(toy):
    (toy.folder / 'first.pth').write_bytes(b'1')
    links = chain(student=dict(options=dict(load_from=str(toy.folder / 'first.pth'))))
    one = versions_of(read_programme(str(toy.write(links))), toy.folder)['student'].folder
    (toy.folder / 'first.pth').write_bytes(b'2')
    assert versions_of(read_programme(str(toy.write(links))), toy.folder)['student'].folder != one


def test_what_configs_that_are_named_read_counts_too(toy):
    """The bases of a peer's config, and annotations in a data_root."""
    base, data = toy.folder / 'base.py', toy.folder / 'data'
    data.mkdir()
    (toy.folder / 'peer.py').write_text("_base_ = './base.py'\n")
    options = {
        'model.objectives.mutual': dict(type='kddense.MutualObjective', peer=str(toy.folder / 'peer.py')),
        'train_dataloader.dataset': dict(data_root=f'{data}/', ann_file='all.json'),
    }
    file = toy.write(dict(a=dict(config='distilled', options=options)))

    def folder():
        return versions_of(read_programme(str(file)), toy.folder)['a'].folder

    base.write_text('model = dict(width=1)\n')
    (data / 'all.json').write_text('{}')
    first = folder()
    base.write_text('model = dict(width=2)\n')
    assert (second := folder()) != first
    (data / 'all.json').write_text('[]')
    assert folder() != second


def test_the_order_of_the_same_time_counts(toy):
    def folder(*same_time):
        links = dict(a=dict(config='student'), b=dict(config='student', seed=1))
        file = toy.write(links | dict(c=dict(config='student', same_time=same_time)))
        return versions_of(read_programme(str(file)), toy.folder)['c'].folder

    assert folder('a', 'b') != folder('b', 'a')


def test_names_in_options_are_not_those_of_links(toy):
    hook = dict(type='RouteHook', teacher='teacher', link='sensor', route=dict(folder='{teacher.work_dir}'))
    links = dict(
        teacher=dict(config='teacher'), a=dict(config='distilled', teacher='teacher', options=dict(route=hook))
    )
    link = read_programme(str(toy.write(links, seeds=[3]))).links['a-3']
    assert link.needs == (link.teacher,) == ('teacher-3',)
    assert link.options == dict(route={**hook, 'route': dict(folder='{teacher-3.work_dir}')})


def test_a_link_may_name_its_own_folder_and_waits_for_nothing(toy):
    links = dict(a=dict(config='student', options={'default_hooks.checkpoint.out_dir': '{a.work_dir}/kept'}))
    programme = read_programme(str(toy.write(links, seeds=[3])))
    assert programme.links['a-3'].needs == ()
    versions = versions_of(programme, toy.folder / 'work')
    versions['a-3'].write_config(versions)
    written = Config.fromfile(versions['a-3'].folder / 'config/link.py', import_custom_modules=False)
    assert written.default_hooks.checkpoint.out_dir == f'{versions["a-3"].folder}/kept'


def test_an_offset_moves_the_random_numbers_and_not_the_pairs(toy):
    links = dict(a=dict(config='student'), b=dict(config='student', seed_offset=100))
    versions = versions_of(read_programme(str(toy.write(links, seeds=[0, 1]))), toy.folder)
    assert [one.config.randomness.seed for one in versions.values()] == [0, 1, 100, 101]
    assert [one.link.seed for one in versions.values()] == [0, 1, 0, 1]


@pytest.mark.parametrize('data', ['camvid', 'bccd'])
def test_no_generation_begins_as_its_teacher_did(data):
    links = read_programme(f'kddense::ban/program_ban_{data}.py').links
    begun = {name: link.seed + link.seed_offset for name, link in links.items()}
    taught = {name: [begun[one] for one in link.needs] for name, link in links.items() if link.teacher}
    assert len(taught) == 18
    assert not any(begun[name] in others for name, others in taught.items())


def test_the_same_time_without_seeds_is_that_of_the_whole_chain(toy):
    links = dict(
        teacher=dict(config='teacher', seed=0),
        plain=dict(config='student'),
        assistant=dict(config='distilled', teacher='teacher'),
        student=dict(config='distilled', teacher='assistant'),
        longer=dict(config='student', same_time=['plain', 'student']),
    )
    versions = versions_of(read_programme(str(toy.write(links))), toy.folder / 'work')
    for name, minutes in dict(plain=2.0, assistant=4.0, student=3.0).items():
        versions[name].folder.mkdir(parents=True)
        (versions[name].folder / 'result.json').write_text(json.dumps(dict(minutes=minutes)))
    assert versions['longer'].steps_in_that_time(versions) == 14, 'the assistant counts, a teacher for all does not'
    (versions['plain'].folder / 'result.json').write_text(json.dumps(dict(minutes=None)))
    with pytest.raises(ValueError, match='links.plain: its log does not say how long it trained'):
        versions['longer'].steps_in_that_time(versions)


def test_another_student_sees_its_own_colours_at_the_size_of_the_training(toy):
    other = Config.fromfile(toy.folder / 'teacher.py')
    other.model.data_preprocessor.update(mean=[127.0] * 3, std=[128.0] * 3, size=(32, 32))
    other.dump(toy.folder / 'other.py')
    links = dict(teacher=dict(config='teacher'), a=dict(config='distilled', student=str(toy.folder / 'other.py')))
    link = versions_of(read_programme(str(toy.write(links))), toy.folder / 'work')['a']
    pixels = link.config.model.student.data_preprocessor
    assert pixels.mean == [127.0] * 3
    assert tuple(pixels.size) == (64, 64)


def test_links_that_do_not_depend_on_each_other_run_side_by_side(toy, monkeypatch):
    """The pieces of work are counted, with processes that only sleep."""
    links = {name: dict(config='student', seed=seed) for seed, name in enumerate('abcd')}
    versions = versions_of(read_programme(str(toy.write(links))), toy.folder / 'work')
    at_once = []

    class Sleeps:
        running = set()
        is_elsewhere = False

        def __init__(self, version, others):
            self.version, self.end = version, time.monotonic() + 0.3
            self.running.add(version.link.name)
            at_once.append(len(self.running))

        def has_ended(self):
            if time.monotonic() < self.end:
                return False
            self.running.discard(self.version.link.name)
            return True

        def close(self):
            pass

    monkeypatch.setattr('kddense.apps.program.run.Work', Sleeps)
    run(versions, 2, lambda text: None)
    assert at_once[0] == 1
    assert max(at_once) == 2
    assert len(at_once) == 4


def test_a_command_template_starts_the_processes(toy):
    script = toy.folder / 'start.sh'
    script.write_text('#!/bin/sh\necho "$@" >> started\nshift\nexec "$@"\n')
    script.chmod(0o755)
    links = dict(teacher=dict(config='teacher', command=f'{script} job-{{name}} {{python}} -m kddense {{arguments}}'))
    assert toy.run(toy.write(links)) == 0
    started = (toy.folder / 'started').read_text().splitlines()
    assert [line.split()[0] for line in started] == ['job-teacher'] * 2
    assert [line.split()[4] for line in started] == ['train', 'test']


def test_another_call_waits_for_a_link_that_is_at_work(toy, capsys):
    from kddense.apps.program.process import Work

    versions = versions_of(read_programme(str(toy.write(dict(teacher=dict(config='teacher'))))), toy.folder / 'work')
    first = Work(versions['teacher'], versions)
    assert Work(versions['teacher'], versions).is_elsewhere
    while not first.has_ended():
        time.sleep(0.1)
    first.close()
    assert not Work(versions['teacher'], versions).is_elsewhere


def test_a_link_that_failed_is_told_and_what_does_not_hang_on_it_is_done(toy):
    links = chain(teacher=dict(options=dict(load_from='nowhere.pth')))
    links['other'] = dict(config='student')
    links['killed'] = dict(config='student', command='sh -c "kill -9 $$" {arguments}')
    links['absent'] = dict(config='student', command='no-such-program {arguments}')
    file = toy.write(links)
    with pytest.raises(SystemExit) as ended:
        toy.run(file)
    said = str(ended.value.code)
    assert '\n' not in said
    assert 'links.teacher failed: ' in said
    assert 'nowhere.pth' in said
    assert '/output.log' in said
    assert 'links.student was not run, it learns from teacher' in said
    assert 'links.killed failed: its process was ended by SIGKILL' in said
    assert "links.absent.command: 'no-such-program' cannot be started" in said
    assert (toy.last('work', 'other') / 'result.json').exists()
    assert not (toy.folder / 'work/student').exists()


BAD = [
    ({}, "links must be a dict of links by name: '"),
    (dict(a=3), 'links.a must be a dict with a config, got 3'),
    (dict(a={}), "links.a needs the key 'config', a training config"),
    ({'a b': dict(config='student')}, "links['a b'] is no name for a link"),
    ({3: dict(config='student')}, 'links[3] is no name for a link'),
    (dict(a=dict(config='student', steps=0)), 'links.a.steps must be at least 1, got 0'),
    (
        dict(a=dict(config='student'), b=dict(config='student', ensemble=['a'], student='c.py')),
        'links.b.ensemble trains nothing, so student has no meaning: remove it',
    ),
    (dict(a=dict(config='student', techer='b')), "links.a has no key 'techer', only "),
    (dict(a=dict(config='student', seed='1')), "links.a.seed must be a whole number, got '1'"),
    (dict(a=dict(config='distilled', teacher='b')), "links.a: there is no link 'b'"),
    (dict(a=dict(config='distilled', options=dict(x='{c.work_dir}/iter_1.pth'))), "links.a: there is no link 'c'"),
    (dict(a=dict(config='student', options=dict(load_from='{a.checkpoint}'))), 'a, which learns from a: a circle'),
    (
        dict(a=dict(config='distilled', teacher='b'), b=dict(config='distilled', teacher='a')),
        'a circle, of which no link can be the first',
    ),
    (dict(a=dict(config='student', teacher='b'), b=dict(config='teacher')), "links.a.teacher: '"),
    (dict(a=dict(config='nowhere')), "links.a.config: there is no file '"),
    (dict(a=dict(config='student', command='srun kddense')), 'links.a.command must be a text with {arguments}'),
    (
        dict(a=dict(config='student', command="bash -c 'true && {python} -m kddense {arguments} --launcher none'")),
        'links.a.command must be a text with {arguments} as a word of its own, such as ',
    ),
    (
        dict(a=dict(config='student', command='bash -c "run {arguments}" {arguments}')),
        'links.a.command must be a text with {arguments} as a word of its own, such as ',
    ),
    (
        dict(a=dict(config='student', command="bash -c 'run {arguments}")),
        'links.a.command: no closing quotation in "bash -c \'run {arguments}": add it',
    ),
    (
        dict(a=dict(config='distilled', teacher=dict(link=['a', 'b']))),
        "links.a.teacher.link must be the name of a link, got ['a', 'b']",
    ),
    (dict(a=dict(config='distilled', teacher=dict(link=5))), 'links.a.teacher.link must be the name of a link, got 5'),
    (
        dict(a=dict(config='distilled', teacher=dict(one=dict(members=[dict(link=None)])))),
        'links.a.teacher.one.members[0].link must be the name of a link, got None',
    ),
    (dict(a=dict(config='student', command='{nodes} {arguments}')), 'links.a.command: there is no {nodes}, only '),
    (dict(a=dict(config='student', same_time=['a'])), 'links.a.same_time must name two links'),
    (
        dict(a=dict(config='student'), b=dict(config='student', steps=3, same_time=['a', 'a'])),
        'links.b.same_time is how long to train too: remove one of steps and same_time',
    ),
    (
        dict(a=dict(config='student'), b=dict(config='student', options={'load_from': '{a.checkpiont}'})),
        'links.b: there is no {a.checkpiont}, only {a.checkpoint}, {a.config}, {a.work_dir}',
    ),
    (dict(a=dict(config='student', student=dict(between=['x']))), 'links.a.student.between must be two configs'),
]


@pytest.mark.parametrize('links, sentence', BAD)
def test_a_bad_programme_is_one_sentence_and_writes_nothing(toy, links, sentence):
    file = toy.write(links)
    before = sorted(toy.folder.rglob('*'))
    with pytest.raises(SystemExit) as ended:
        toy.run(file)
    assert sentence in str(ended.value.code)
    assert '\n' not in str(ended.value.code)
    assert sorted(toy.folder.rglob('*')) == before


@pytest.mark.parametrize(
    'others, sentence',
    [
        (dict(seeds=3), 'seeds must be a list of whole numbers, got 3'),
        (dict(plain='plian'), "plain: there is no link 'plian'"),
        (dict(plain=3), 'plain must be the name of a link, got 3'),
        (dict(seeds=[0, 0]), 'seeds must be different ones, got [0, 0]'),
        (dict(seed=3), "seed has no meaning: is 'seeds' meant? Else choose another name"),
        (dict(command='srun'), 'command must be a text with {arguments}'),
    ],
)
def test_what_stands_beside_the_links_is_checked(toy, others, sentence):
    with pytest.raises(SystemExit) as ended:
        toy.run(toy.write(dict(plain=dict(config='student')), **others))
    assert sentence in str(ended.value.code)


def test_no_link_takes_the_name_of_another_with_its_seed(toy):
    links = {'a': dict(config='student'), 'a-1': dict(config='student', seed=7)}
    with pytest.raises(ValueError, match=re.escape("links['a-1']: this name is also that of a link with its seed")):
        read_programme(str(toy.write(links, seeds=[0, 1])))


def test_a_link_teaches_by_another_of_its_checkpoints(toy):
    links = dict(
        a=dict(config='distilled'),
        b=dict(config='distilled', teacher=dict(link='a', checkpoint='{a.work_dir}/iter_2.pth')),
    )
    programme = read_programme(str(toy.write(links)))
    assert programme.links['b'].needs == ('a',)
    found = _teacher(programme.links['b'].teacher)
    assert found == dict(config='{a.config}', checkpoint='{a.work_dir}/iter_2.pth')
