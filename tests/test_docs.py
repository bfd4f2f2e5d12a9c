"""docs/: every page is in the navigation, what it names exists, its configs can be read, its code runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from PIL import Image
from selenium.webdriver.support.wait import WebDriverWait
from torch import nn

import kddense
from kddense.apps.distill.quality import NOTHING_FOUND
from kddense.apps.distill.writing import DISTILLED, PLAIN
from kddense.apps.measure.markdown import gain
from kddense.apps.measure.recorded import read_table
from kddense.apps.measure.statistics import TOO_FEW
from kddense.apps.program.links import read_programme
from kddense.exchange import Batch, Question
from kddense.registry import HOOKS, MODELS, TEACHERS, TRANSFORMS, VIEWS

from .helpers import tiny

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = sorted(path for path in DOCS.rglob('*.md') if 'configs' not in path.relative_to(DOCS).parts)
NAMES = [str(page.relative_to(DOCS)) for page in PAGES]
MENTIONED = re.compile(r'\b((?:configs|tools)/[\w./-]+\.(?:py|sh))')


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', page.read_text(), flags=re.DOTALL)


def leaves(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for item in (nav.values() if isinstance(nav, dict) else nav) for leaf in leaves(item)]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r'^#+ (.*)$', page.read_text(), flags=re.MULTILINE)
    return {re.sub(r'[-\s]+', '-', re.sub(r'[^\w\s-]', '', title).strip().lower()) for title in titles}


def without_links(text: str) -> str:
    return re.sub(r'\[([^\]]+)\]\([^)]+\)', r'\1', text)


def sections(page: Path) -> dict[str, str]:
    """Return the text below each title, by its anchor."""
    found: dict[str, str] = {}
    name, in_code = '', False
    for line in page.read_text().splitlines():
        in_code ^= line.startswith('```')
        title = None if in_code else re.match(r'#+ (.*)', line)
        name = re.sub(r'[-\s]+', '-', re.sub(r'[^\w\s-]', '', title[1]).strip().lower()) if title else name
        found[name] = found.get(name, '') + line + '\n'
    return found


def test_the_navigation_has_every_page_and_every_readme_once():
    listed = leaves(yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav'])
    readmes = {f'configs/{path.parent.name}/README.md' for path in (ROOT / 'configs').glob('*/README.md')}

    assert len(listed) == len(set(listed))
    assert set(listed) == readmes | set(NAMES)


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)]+)\)', page.read_text()):
        assert not target.startswith('http'), f'{target}: the pages stand on their own'
        path, _, anchor = target.partition('#')
        found = (page.parent / path) if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize(
    'page',
    [ROOT / 'README.md', *PAGES, *sorted((ROOT / 'configs').glob('*/README.md'))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_no_table_is_cut_in_two(page):
    """Rows behind an empty line have no header, and are shown as text."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r'(?:^\|.*\n)+', text, flags=re.MULTILINE):
        assert re.match(r'.*\n\|(?:-+\|)+\n', table), table


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_the_files_and_classes_it_names_exist(page):
    text = page.read_text()
    defined = set(re.findall(r'^class (\w+)', text, flags=re.MULTILINE))
    registries = [value for value in vars(kddense.registry).values() if isinstance(value, Registry)]

    for path in MENTIONED.findall(text):
        assert (ROOT / path).is_file(), path
    for name in set(re.findall(r'`(\w+\.py)`', text)) - {PLAIN, DISTILLED}:
        assert list((ROOT / 'configs/_base_/recipes').glob(name)) or name.startswith('my_'), name
    for name in re.findall(r"'kddense\.([A-Z]\w+)'", text):
        assert name in defined or any(registry.get(name) for registry in registries), name


# Rows of many tables; tests/apps/measure compares its numbers with the records.
RESULTS = DOCS / 'results.md'
RECORDS = sorted((ROOT / 'configs').glob('*/measured_*.json'))
DATA = ('ade20k', 'bccd', 'camvid', 'cityscapes', 'coco', 'coco128', 'kitti', 'nyu', 'nyuv2')
UNTRAINED = re.compile(r'\b(not|none|never|neither|nor)\b[^.]*\btrained\s+here', re.IGNORECASE)


def programme_of(table: dict) -> str | None:
    """Return the programme that made a table, if one did."""
    made_by = re.match(r'kddense program (\S+)', table['commands'][0])
    return made_by[1] if made_by else None


def configs_of(table: dict) -> set[str]:
    """Return the configs of a table's rows; where rows are links of a programme, those of the links."""
    programme = programme_of(table)
    rows = {row['config'] for row in table['rows']}
    links = read_programme(str(ROOT / programme)).links.values() if programme else []
    return rows | {link.config for link in links if link.row in rows}


@pytest.fixture(scope='module')
def measured() -> set[str]:
    """The names of all configs of which a record has a row."""
    return {Path(config).stem for record in RECORDS for config in configs_of(read_table(record))}


@pytest.mark.parametrize('page', [page for page in PAGES if page != RESULTS], ids=lambda page: page.stem)
def test_measured_figures_stand_in_a_readme(page):
    readmes = (path.read_text() for path in (ROOT / 'configs').glob('*/README.md'))
    measured = {without_links(line) for text in readmes for line in text.splitlines()}

    for row in (line for line in page.read_text().splitlines() if '±' in line or line.startswith('| teacher')):
        assert row in measured, row


@pytest.mark.parametrize('record', RECORDS, ids=lambda one: one.parent.name + one.stem)
def test_the_page_of_a_measured_method_does_not_call_it_unmeasured(record):
    pages = [DOCS / 'methods' / f'{record.parent.name}.md', record.parent / 'README.md']
    for page in (one for one in pages if one.exists()):
        assert not re.search(r'(\*\*|it was )not (yet )?measured here', page.read_text(), re.IGNORECASE), page


@pytest.mark.parametrize('page', sorted((ROOT / 'configs').glob('*/README.md')), ids=lambda page: page.parent.name)
def test_no_config_of_a_record_is_called_untrained(page, measured):
    """In the row of a table, or in a sentence: by its data set, or as one of all where the sentence names none."""
    own = measured & {path.stem for path in page.parent.glob('*.py')}
    text = page.read_text()
    for line in text.splitlines():
        if line.startswith('|') and 'not measured |' in line:
            named = {Path(name).stem for name in re.findall(r'\((\S+\.py)\), not measured', line)}
            assert not named & measured, line
    for sentence in re.split(r'(?<=[.:;])\s|\n\s*\n', text):
        if re.search(UNTRAINED, sentence):
            said = {name for name in DATA if re.search(rf'\b{name}\b', sentence, re.I)}
            assert not [name for name in own if not said or said & set(re.split('[_-]', name))], sentence


@pytest.mark.parametrize(
    'sentence',
    ['They have not been trained here', 'None of these configs has been\ntrained here', 'It was never trained here'],
)
def test_whatever_words_say_so_are_found(sentence):
    assert re.search(UNTRAINED, sentence)
    assert not re.search(UNTRAINED, 'The teacher was trained here once')


@pytest.mark.parametrize('record', RECORDS, ids=lambda one: one.parent.name + one.stem)
def test_a_page_tells_what_a_programme_gave(record):
    """One gain of each record at least; tests/apps/measure sees to those that are of no programme."""
    table = read_table(record)
    gains = [gain(row, table['metric']) for row in table['rows'] if row['verdict'] != TOO_FEW]
    if not programme_of(table) or not gains:
        return
    told = ''.join(page.read_text() for page in PAGES if page != RESULTS)
    assert any(one in told for one in gains), f'no page but the results has one of {gains}'


@pytest.mark.parametrize('page', [ROOT / 'README.md', RESULTS, DOCS / 'which-method.md'], ids=lambda page: page.stem)
def test_a_page_that_tells_one_of_two_verdicts_tells_the_other(page):
    """Where one config was measured twice in one way, and one run alone helps or harms."""
    runs: dict[tuple[str, int], dict[str, str]] = {}
    for record in RECORDS:
        table = read_table(record)
        for row in table['rows']:
            if '/' in row['config'] and row['verdict'] != TOO_FEW and not row.get('begins_from'):
                runs.setdefault((row['config'], row['steps']), {})[gain(row, table['metric'])] = row['verdict']
    text = page.read_text()
    for (config, _), verdicts in runs.items():
        told = {one for one in verdicts if one in text}
        assert not told or {verdicts[one] for one in told} == set(verdicts.values()), f'{config}: {verdicts}'


def test_the_images_of_the_records_are_explained():
    files = list(re.findall('`(data/[^`]+)`', sections(RESULTS)['the-data']))
    for splits in set(re.findall(r'\{(.*?)\}', ' '.join(files))):
        files += [name.replace(f'{{{splits}}}', split) for name in files for split in splits.split(',')]
    for used in {name for record in RECORDS for name in read_table(record)['setting']['test']['data']}:
        assert any(name.startswith(used) for name in files), used


TEACHER = re.compile(r"'(work_dirs/[\w/]+)/\w+\.pth'")


def inherited_in(config: Path) -> str:
    """Return the text of a config and of those of the repository that it inherits."""
    text = config.read_text()
    bases = re.match(r".*?_base_ = (\[.*?\]|'.*?')", text, flags=re.DOTALL)
    names = re.findall(r"'(\.{1,2}/.*?)'", bases[1]) if bases else []
    return text + ''.join(inherited_in((config.parent / name).resolve()) for name in names)


@pytest.mark.parametrize(
    'page', [*sorted(DOCS.glob('methods/*.md')), DOCS / 'measure.md', DOCS / 'diagnose.md'], ids=lambda page: page.stem
)
def test_the_commands_say_where_their_teacher_is_trained(page):
    """What a config loads must be there: a page links the commands that train it, and the images, above its own."""
    above = ''
    for block in re.split(r'(```bash\n.*?```)', page.read_text(), flags=re.DOTALL):
        configs = [name for name in MENTIONED.findall(block) if block.startswith('```bash') and 'program_' not in name]
        teachers = {folder for name in configs for folder in TEACHER.findall(inherited_in(ROOT / name))}
        linked = re.findall(r'\]\(([^)#]*/README\.md)#([^)]+)\)', above)
        trained = ''.join(sections(page.parent / path).get(anchor, '') for path, anchor in linked)
        for folder in teachers:
            assert re.search(rf'kddense train \S+ --work-dir {folder}\b', trained), folder
        assert not teachers or 'results.md#the-data' in above
        above += block


def test_the_versions_of_both_pages_agree():
    """Those of the table in README.md stand in the page on installation, as ``name version`` in its own table."""
    table = sections(ROOT / 'README.md')['install'].replace(', compiled', '')
    told = (DOCS / 'install.md').read_text().replace('`', '')
    versions = re.findall(r'((?:onedl-)?mm[a-z]+(?:-lite)?) (\d[\w.]*(?: to \d[\w.]*)?)', table)
    assert len(versions) == 10
    for package, version in versions:
        assert re.search(rf'\| (\S+ [^|]*)?{package} {version}\b', told), f'{package} {version}'


def test_the_configs_of_the_pages_can_be_read(tmp_path, monkeypatch):
    """Saved under the names that the text gives them; each objective of a distiller is one that kddense builds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    names = dict(
        zip(
            ('my_detector', 'my_segmentor', 'my_child'),
            [block for block in blocks(DOCS / 'quick-start.md', 'python') if '_base_ =' in block],
            strict=True,
        )
    )
    data = [block for block in blocks(DOCS / 'your-data.md', 'python') if '_base_' in block]
    names.update(zip(('my_student', 'my_teacher', 'my_apples'), data[:3], strict=True))
    for name, text in names.items():
        (tmp_path / f'{name}.py').write_text(text)
    read = {name: Config.fromfile(f'{name}.py') for name in names}

    for name in ('my_detector', 'my_segmentor', 'my_child', 'my_apples'):
        assert read[name].model.type == 'kddense.Distiller'
        for config in read[name].model.objectives.values():
            assert isinstance(MODELS.build(config), kddense.Objective)
    assert read['my_child'].model.objectives.rpn.weight == 0
    assert read['my_teacher'].model.backbone.depth == 101
    assert read['my_teacher'].model.roi_head.bbox_head.num_classes == 2
    assert read['my_apples'].model.student == read['my_student'].model


def test_the_lines_of_a_config_can_be_read(tmp_path):
    first, written_out, child, changed, named, joint, joint_named = blocks(DOCS / 'lines.md', 'python')
    base, teacher, *_ = first.strip().splitlines()
    segmentor = (
        "_base_ = ['mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py', 'kddense::_base_/recipes/skd.py']\n"
    )
    pages = dict(
        my_detector=first,
        written_out='\n'.join([base, teacher, written_out]),
        child=child,
        changed='\n'.join([base, teacher, changed]),
        named=named,
        joint=segmentor + joint,
        joint_named=segmentor + joint_named,
    )
    for name, text in pages.items():
        (tmp_path / f'{name}.py').write_text(text)
    read = {name: Config.fromfile(tmp_path / f'{name}.py') for name in pages}

    assert read['written_out'].model == read['my_detector'].model
    assert read['my_detector'].default_hooks.keys() > {'random_state', 'checkpoint', 'logger'}
    assert read['child'].model.objectives.rpn.weight == 0
    assert read['changed'].model.objectives.hint.weight == 0.5
    assert read['joint'].optim_wrapper == read['joint_named'].optim_wrapper
    read['named'].merge_from_dict({'model.objectives.2.hint.weight': 0.25})
    assert read['named'].model.objectives[2].hint.weight == 0.25


def test_a_teacher_that_is_asked_once_builds(tmp_path, monkeypatch):
    """Over a plain student, and over the quick start's config, which distils already."""
    monkeypatch.chdir(tmp_path)
    # Without a checkpoint the teacher would begin with weights of its backbone, from the network.
    monkeypatch.setattr('kddense.teachers.frozen.pretrained_in', lambda model: False)
    over_a_student, over_a_distiller, _ = blocks(DOCS / 'cache.md', 'python')
    detector, *_ = blocks(DOCS / 'quick-start.md', 'python')
    for name, text in dict(my_detector=detector, first=over_a_student, second=over_a_distiller).items():
        (tmp_path / f'{name}.py').write_text(text)

    for name in ('first', 'second'):
        config = Config.fromfile(f'{name}.py')
        config.model.teacher.checkpoint = None
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(config.model)
        (teacher,) = model.teachers.values()
        assert isinstance(teacher, kddense.CachedTeacher)
        assert set(model.objectives) == {'rpn', 'roi', 'hint'}
        data = config.train_dataloader.dataset
        assert (data.type, data.dataset.type) == ('kddense.VariantDataset', 'CocoDataset')
        assert data.variants == config.model.teacher.variants


def test_the_page_tells_what_chance_is():
    assert f'Chance is a mAP of {100 * NOTHING_FOUND:g} of 100,' in (DOCS / 'distill.md').read_text()


def test_the_hook_of_unlabelled_images_builds():
    names: dict = {}
    (block,) = blocks(DOCS / 'methods' / 'skd-segmentation.md', 'python')
    exec(block, names)

    hook = HOOKS.build(names['default_hooks']['unlabelled'])
    assert hook.ratio == 1


def _two_folders(root: Path, maps: str, values: int, kind: str) -> None:
    """Two images for training and two for validation, and their maps, of one number each pixel."""
    numbers = np.random.RandomState(0)
    for split in ('train', 'val'):
        for folder in ('images', maps):
            (root / folder / split).mkdir(parents=True)
        for index in range(2):
            image = numbers.randint(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / 'images' / split / f'{index}.jpg')
            map = numbers.randint(0, values, (64, 64)).astype(kind)
            Image.fromarray(map).save(root / maps / split / f'{index}.png')


@pytest.mark.parametrize(
    'name, folder, maps',
    [('my_segmentor', 'orchard', ('labels', 4, 'uint8')), ('my_depth', 'rooms', ('depth', 9000, 'uint16'))],
)
def test_your_own_folders_train_and_test(name, folder, maps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = [block for block in blocks(DOCS / 'your-data.md', 'python') if f"'data/{folder}/'" in block]
    Path(f'{name}.py').write_text(text.replace('(512, 512)', '(64, 64)').replace('(1024, 768)', '(64, 64)'))
    _two_folders(tmp_path / 'data' / folder, *maps)
    config = Config.fromfile(f'{name}.py')
    config.merge_from_dict({'work_dir': 'out', 'train_cfg.max_iters': 1, 'train_cfg.val_interval': 1})
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    config.train_dataloader.batch_size = 2
    config.model.pretrained = config.model.backbone.init_cfg = None

    runner = Runner.from_cfg(config)
    runner.train()

    metric = {'my_segmentor': 'mIoU', 'my_depth': 'abs_rel'}[name]
    assert 0 < runner.message_hub.get_scalar(f'val/{metric}').current() < 100


def test_the_teacher_of_your_own_segmentor_inherits_its_data(tmp_path):
    student, teacher = [block for block in blocks(DOCS / 'your-data.md', 'python') if 'open-mmlab://' in block]
    (tmp_path / 'my_segmentor.py').write_text(student)
    (tmp_path / 'my_segmentor_teacher.py').write_text(teacher)

    student, teacher = (Config.fromfile(tmp_path / f'{name}.py') for name in ('my_segmentor', 'my_segmentor_teacher'))
    assert teacher.train_dataloader == student.train_dataloader
    assert teacher.model.decode_head.num_classes == 4
    assert teacher.model.backbone.depth == 101


class ImageClassifier(BaseModel):
    """A classifier such as the one that the page's view is for."""

    def __init__(self, width: int) -> None:
        super().__init__(data_preprocessor=ImgDataPreprocessor())
        self.backbone = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, 4)

    def extract_feat(self, inputs):
        return self.backbone(inputs).mean(dim=(2, 3))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.head(self.extract_feat(inputs))
        return dict(loss_own=logits.square().mean()) if mode == 'loss' else logits


@pytest.fixture
def written(monkeypatch):
    """The code of the page, run; nothing of it stays registered."""
    for registry in (MODELS, TEACHERS, TRANSFORMS, VIEWS):
        monkeypatch.setattr(registry, '_module_dict', dict(registry._module_dict))
    names: dict = {'__name__': __name__}
    for block in blocks(DOCS / 'extending.md', 'python'):
        exec(block, names)
    return names


def test_your_own_loss_is_the_distance_of_the_reference(written):
    teacher = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]], [[1.0, 2.0], [0.0, 1.0]]]])
    student = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]])

    torch.testing.assert_close(
        written['attention_distance'](student, teacher), torch.tensor(0.0256584), rtol=1e-5, atol=0
    )


def test_your_own_loss_and_objective_train_a_detector(written):
    objectives = dict(written['objectives'], maps=dict(type='kddense.AttentionObjective', weight=1000))
    model = tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), objectives)

    losses = tiny.step(model, tiny.detection_data())
    (losses['distill.attention.loss'] + losses['distill.maps.loss']).backward()

    assert losses['distill.attention.loss'] > 0
    assert losses['distill.maps.loss'] > 0
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0


def test_your_own_connector_sees_all_levels(written):
    compared = dict(type='kddense.FeatureObjective', tap='neck', connector=dict(type='kddense.TopDown'))
    model = tiny.distiller(tiny.faster_rcnn(), tiny.faster_rcnn(width=16), dict(maps=compared))

    losses = tiny.step(model, tiny.detection_data())
    losses['distill.maps.loss'].backward()

    (connector,) = model.objectives['maps'].connectors
    assert isinstance(connector, written['TopDown'])
    assert all(layer.weight.grad.abs().sum() > 0 for layer in connector.layers)


def test_your_own_teacher_averages_two_answers(written):
    config = dict(config=dict(model=tiny.faster_rcnn(width=16), default_scope='mmdet'), checkpoint=None)
    mirrored, plain = written['MirroredTeacher'](**config), written['FrozenTeacher'](**config)
    plain.model.load_state_dict(mirrored.model.state_dict())
    symmetric = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    inputs = torch.cat([symmetric, symmetric.flip(-1)], dim=-1)
    question, batch = (
        Question(taps=frozenset({'neck'})),
        Batch(inputs, [DetDataSample(metainfo=dict(img_shape=(64, 64)))]),
    )

    (level, *_), (expected, *_) = (teacher.answer(question, batch).taps['neck'] for teacher in (mirrored, plain))
    torch.testing.assert_close(level, (expected + expected.flip(-1)) / 2)


def test_your_own_transform_says_what_it_becomes(written):
    plain = written['LoadTwice'].plain(dict(type='kddense.LoadTwice'), 'train_dataloader.dataset.pipeline')
    assert plain.items == (dict(type='LoadImageFromFile'),)


def test_your_own_view_lets_a_classifier_learn(written):
    MODELS.register_module(module=ImageClassifier)
    student, teacher = (dict(type='kddense.ImageClassifier', width=width) for width in (4, 8))
    model = tiny.distiller(student, teacher, dict(soft=dict(type='kddense.ClassObjective')))
    samples = [BaseDataElement(metainfo=dict(img_shape=(16, 16))) for _ in range(2)]
    inputs = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    losses = model(inputs, samples, mode='loss')
    expected = kddense.losses.soft_target_divergence(model.student(inputs), model.teachers['teacher'].model(inputs))
    losses['distill.soft.loss'].backward()

    torch.testing.assert_close(losses['distill.soft.loss'], expected)
    assert model.student.head.weight.grad.abs().sum() > 0
    assert isinstance(model.student_view, written['ClassifierView'])


def test_the_search_works_when_the_pages_are_read_from_disk(browser, tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--quiet', '--site-dir', tmp_path],
        cwd=ROOT,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    browser.get((tmp_path / 'methods' / 'pkd.html').as_uri())
    browser.execute_script("document.querySelector('#__search').click()")
    browser.find_element('css selector', 'input.md-search__input').send_keys('Pearson')

    def found(browser):
        return [link.get_attribute('href') for link in browser.find_elements('class name', 'md-search-result__link')]

    links = WebDriverWait(browser, 20).until(found)
    assert (tmp_path / 'configs' / 'pkd' / 'index.html').as_uri() in links
