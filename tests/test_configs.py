"""Every config of the repository: it builds, is short, and stands in its folder's README.md and metafile.yml."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import timm
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.registry import TRANSFORMS, DefaultScope

from kddense import Distiller
from kddense.apps.program.links import read_programme
from kddense.apps.program.versions import versions_of
from kddense.apps.search.space import config_of, read_search
from kddense.configs import read_config
from kddense.distiller.written import objectives_of
from kddense.pretrained import untrained
from kddense.registry import MODELS

REPOSITORY = Path(__file__).parents[1]
ROOT = REPOSITORY / 'configs'
PROGRAMMES = sorted(ROOT.rglob('program_*.py'))  # several trainings, run by `kddense program`
SEARCHES = sorted(ROOT.rglob('search_*.py'))  # for a student, by `kddense search`
OTHERS = [*PROGRAMMES, *SEARCHES]
CONFIGS = sorted(path for path in ROOT.rglob('*.py') if '_base_' not in path.parts and path not in OTHERS)
FOLDERS = sorted(path for path in ROOT.iterdir() if path.is_dir() and path.name != '_base_')
NAMES = [str(path.relative_to(ROOT)) for path in CONFIGS]


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    """Where whoever installed a wheel starts trainings; a config refers to another one from anywhere."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def empty_weights(monkeypatch):
    """Leave new weights as they come from memory: drawing random ones is most of the time that building takes.

    A teacher without a checkpoint would begin with weights of its backbone, from the network.
    """
    monkeypatch.setattr('kddense.teachers.frozen.pretrained_in', lambda model: False)
    for draw in ('uniform_', 'normal_'):
        monkeypatch.setattr(torch.Tensor, draw, lambda weight, *_, **__: weight)


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_its_model_builds(path, empty_weights):
    config = unmeasured(read(path))
    model = build(config)

    if config.model.type != 'kddense.Distiller':
        return
    assert isinstance(model, Distiller)
    if 'objectives' not in config.model:  # it learns from labels alone, of some classes or with scores
        assert not model.teachers
        return
    assert bool(model.teachers) == ('teacher' in config.model)
    off = {name for name, objective in config.model.objectives.items() if MODELS.build(objective).is_off}
    assert set(model.objectives) == set(config.model.objectives) - off
    assert model.objectives
    if path in STRUCTURED:
        check_terms_and_optimisers(path, config, model)


@pytest.fixture
def panopticapi(monkeypatch):
    """Stand-in for a package that is in no registry, of which pipelines take one function when they are built."""
    package = ModuleType('panopticapi')
    package.utils = SimpleNamespace(rgb2id=None)
    monkeypatch.setitem(sys.modules, 'panopticapi', package)


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_its_pipelines_build(path, panopticapi):
    config = read(path)

    with DefaultScope.overwrite_default_scope(config.default_scope):
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            pipelines = list(values_of(config[loader], 'pipeline'))
            assert pipelines, loader
            for transform in (transform for pipeline in pipelines for transform in pipeline):
                TRANSFORMS.build(transform)


@pytest.mark.parametrize('path', sorted(ROOT.rglob('*.py')), ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_short_and_says_what_it_is(path):
    lines = path.read_text().splitlines()

    assert len(lines) <= 40
    assert lines[0].startswith('"""')


def test_the_index_has_every_metafile():
    index = yaml.safe_load((REPOSITORY / 'model-index.yml').read_text())

    assert index == {'Import': [f'configs/{folder.name}/metafile.yml' for folder in FOLDERS]}


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_lists_its_configs(folder):
    metafile = yaml.safe_load((folder / 'metafile.yml').read_text())
    readme = (folder / 'README.md').read_text()
    collections = {collection['Name'] for collection in metafile['Collections']}
    configs = {str(path.relative_to(REPOSITORY)) for path in folder.rglob('*.py')}

    assert {model['Config'] for model in metafile['Models']} == configs
    assert {model['In Collection'] for model in metafile['Models']} <= collections
    assert [model['Name'] for model in metafile['Models']] == [
        Path(model['Config']).stem for model in metafile['Models']
    ]
    assert {collection['README'] for collection in metafile['Collections']} == {f'configs/{folder.name}/README.md'}
    assert not [
        config for config in configs if f'({Path(config).relative_to(folder.relative_to(REPOSITORY))})' not in readme
    ]
    for model in metafile['Models']:
        loop = read(REPOSITORY / model['Config']).get('train_cfg', {})
        assert model['Metadata'].get('Epochs') == loop.get('max_epochs')
        assert model['Metadata'].get('Iterations') == loop.get('max_iters')


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_what_it_refers_to_is_there(path):
    """A teacher that is trained first has its config here, and its checkpoint where that training leaves it."""
    for teacher in teachers_of(read(path)):
        package, _, name = teacher.config.partition('::')
        if package == 'kddense':
            assert (ROOT / name).is_file()
            assert teacher.checkpoint.startswith('work_dirs/')
        else:
            assert teacher.checkpoint.startswith('https://download.openmmlab.com/')
            assert path_of(teacher.checkpoint) in map(path_of, weights_published_for(teacher.config))
    teacher = read(path).model.get('teacher', {})
    if teacher.get('type') == 'kddense.TimmTeacher':
        assert teacher.model in timm.list_pretrained()


@pytest.mark.parametrize('path', PROGRAMMES, ids=lambda path: path.stem)
def test_the_links_of_a_programme_build(path, tmp_path, empty_weights):
    programme = read_programme(f'kddense::{path.relative_to(ROOT)}')
    versions = versions_of(programme, tmp_path)
    assert programme.plain in {link.row for link in programme.links.values()}
    for row, version in {one.link.row: one for one in versions.values()}.items():
        version.write_config(Untrained(versions))
        config = copy.deepcopy(read(version.folder / 'config/link.py'))
        if config.model.get('teacher'):
            config.model.teacher = untrained(config.model.teacher)
        if config.model.type == 'kddense.EnsembleModel':  # of trained models alone
            assert [one['config'] for one in config.model.members] == [
                str(versions[name].folder / 'config/link.py') for name in version.link.ensemble
            ]
            continue
        assert build(config), row
        assert config.default_hooks.random_state == dict(type='kddense.RandomStateHook')


@pytest.mark.parametrize('path', SEARCHES, ids=lambda path: path.stem)
def test_the_students_of_a_search_build(path, empty_weights):
    search = read_search(f'kddense::{path.relative_to(ROOT)}')
    for place in (0, -1):
        chosen = {name: list(choices)[place] for name, choices in search.space.items()}
        for with_teacher in (True, False):
            assert build(config_of(search, chosen, with_teacher))


class Untrained(dict):
    """Links of which none is trained, so that all have their configs but no checkpoint."""

    def __getitem__(self, name: str) -> Any:
        version = super().__getitem__(name)

        def told(what: str) -> str:
            if what == 'config':
                version.write_config(self)
            return 'none.pth' if what == 'checkpoint' else version.told(what)

        return SimpleNamespace(
            told=told,
            link=version.link,
            config=version.config,
            minutes=lambda: 1.0,
            chain=lambda others: [self[name]],
        )


def both(**options: Any) -> dict[str, Any]:
    return {
        'rpn': dict(type='kddense.ChenRPNObjective', **options),
        'roi': dict(type='kddense.ChenRoIObjective', **options),
    }


TABLE_4 = {
    'l2': both(mu=1, bounded=False),
    'l2-b': both(mu=1),
    'cls': both(nu=0, background_weight=1),
    'cls-w': both(nu=0),
    'hint': dict(hint=dict(type='kddense.HintObjective', adapt=False)),
    'hint-a': dict(hint=dict(type='kddense.HintObjective')),
    'l2-b_cls-w': both(),
}


@pytest.mark.parametrize('row', TABLE_4)
@pytest.mark.parametrize('setting', ['r50_r18_fpn_1x_coco', 'r18_r18-w16_fpn_bccd'])
def test_ablations_are_the_rows_of_table_4(row, setting):
    objectives = read(ROOT / 'chen2017' / 'ablations' / f'{row}_{setting}.py').model.objectives

    assert {name: config for name, config in objectives.items() if config.get('weight') != 0} == TABLE_4[row]


TERMS = {
    'skd': {'pixel', 'pair', 'holistic'},
    'skd-unlabelled': {'pixel', 'pair', 'holistic'},
    'code': {'pixel', 'pair', 'holistic'},
    'pi': {'pixel'},
    'pi-student-teacher': {'pixel'},
    'pi-pa': {'pixel', 'pair'},
    'cwd': {'cwd'},
    'cwd-feature': {'cwd'},
}
DEPTH_TERMS = {'skd': {'pair', 'holistic'}, 'pa': {'pair'}}  # the paper has no pixel-wise term there
STRUCTURED = [path for path in CONFIGS if path.name.partition('_')[0] in TERMS | DEPTH_TERMS]


def check_terms_and_optimisers(path: Path, config: Config, model: Any) -> None:
    """They are those of its name."""
    with DefaultScope.overwrite_default_scope(config.default_scope):
        wrapper = build_optim_wrapper(model, config.optim_wrapper)

    terms = (DEPTH_TERMS if '_depth_' in path.name else TERMS)[path.name.partition('_')[0]]
    assert set(model.objectives) == terms
    assert ('holistic' in terms) == (isinstance(wrapper, OptimWrapperDict) and 'holistic' in wrapper)
    optimised = wrapper['student'] if isinstance(wrapper, OptimWrapperDict) else wrapper
    modules = [model.student, *(model.objectives[name] for name in terms - {'holistic'})]
    learning = {id(p) for module in modules for p in module.parameters() if p.requires_grad}
    assert {id(p) for group in optimised.param_groups for p in group['params'] if p.requires_grad} == learning


def test_the_released_code_differs_from_the_paper_in_all_three_terms():
    paper = read(ROOT / 'skd' / 'skd_r101_r18_pspnet_512x512_cityscapes.py')
    code = read(ROOT / 'skd' / 'ablations' / 'code_r101_r18_pspnet_512x512_cityscapes.py')

    assert {objective.get('mode') for objective in paper.model.objectives.values()} == {None}
    assert {objective.get('mode') for objective in code.model.objectives.values()} == {'code'}
    assert code.model.objectives.pair.weight == 0.5
    assert code.optim_wrapper.objectives.holistic.optimizer == dict(
        type='SGD', lr=4e-4, momentum=0.9, weight_decay=5e-4
    )


def test_five_lines_distil_any_two_stage_detector(tmp_path, empty_weights):
    (tmp_path / 'mine.py').write_text("""
_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 'kddense::_base_/recipes/chen2017.py']
model = dict(
    student=_base_.model,
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='r101.pth'),
    **_base_.distiller)
""")

    model = build(read(tmp_path / 'mine.py'))

    assert list(model.objectives) == ['rpn', 'roi', 'hint']


@pytest.mark.parametrize('name', ['skd/fpn_r18-w16_camvid.py', 'mmseg::_base_/models/fpn_r50.py'])
def test_a_miscount_of_the_parser_is_no_broken_config(name, monkeypatch):
    """CPython before 3.11.8 raises a SystemError where two threads parse at once; the config is as it is."""
    parse, calls = ast.parse, []

    def miscounting(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise SystemError('AST constructor recursion depth mismatch (before=246, after=264)')
        return parse(*args, **options)

    file = str(ROOT / name) if '::' not in name else name
    expected = read_config(file, 'teacher').to_dict()
    monkeypatch.setattr(ast, 'parse', miscounting)
    assert read_config(file, 'teacher').to_dict() == expected
    assert len(calls) > 1


@functools.cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def build(config: Config) -> Any:
    """Build the model as mmengine's runner does, with teachers that are not loaded."""
    config = unmeasured(config)
    for teacher in teachers_of(config):
        teacher.checkpoint = None
    if config.model.get('teacher', {}).get('pretrained'):  # by timm, from the network
        config.model.teacher.pretrained = False
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return MODELS.build({'data_preprocessor': config.get('data_preprocessor'), **config.model})


def unmeasured(config: Config) -> Config:
    """Return a copy whose teachers' errors need not have been measured before, with objectives by name."""
    config = copy.deepcopy(config)
    if 'objectives' in config.model:
        config.model.objectives = objectives_of(config.model.objectives)
    for objective in config.model.get('objectives', {}).values():
        if str(objective.get('error_range', '')).endswith('.json'):
            objective.error_range = 'running'
    return config


def teachers_of(config: Config) -> list[Any]:
    teacher = config.model.get('teacher', {})
    several = [teacher] if 'config' in teacher else list(teacher.values())
    return [one for one in several if isinstance(one, dict) and one.get('checkpoint')]  # an average has none


def values_of(node: Any, key: str) -> Iterator[Any]:
    """Find every ``key`` in nested dicts and lists: datasets may be wrapped in others."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    if isinstance(node, dict) and key in node:
        yield node[key]
    for child in children:
        yield from values_of(child, key)


def path_of(url: str) -> str:
    """Return a URL without its host: the maintained forks keep copies at their own."""
    return urlsplit(url).path


def weights_published_for(config: str) -> list[str]:
    """Return the URLs that the package's own metafile gives for one of its configs, ``'package::path'``."""
    package, _, path = config.partition('::')
    folder = Path(importlib.import_module(package).__file__).parent / '.mim' / 'configs' / Path(path).parent
    models = yaml.safe_load(next(folder.glob('metafile.y*ml')).read_text())['Models']
    return [model['Weights'] for model in models if model['Config'] == f'configs/{path}']
