"""A walk over the architectures of mmdet: what is served of each, and the sentences that refuse the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from kddense.registry import VIEWS
from kddense.views import ViewError, build_view

from . import stock_models

# Folders of mmdet's configs without a detector of their own: data sets, recipes for heads that stand elsewhere, trackers;
# and one whose name mmengine does not read.
NO_DETECTOR = {
    *('_base_', 'cityscapes', 'common', 'deepfashion', 'dsdl', 'lvis', 'objects365', 'openimages', 'pascal_voc'),
    *(
        'v3det',
        'wider_face',
        'gn+ws',
        'misc',
        'legacy_1.x',
        'strong_baselines',
        'selfsup_pretrain',
        'simple_copy_paste',
    ),
    *('bytetrack', 'deepsort', 'mask2former_vis', 'masktrack_rcnn', 'ocsort', 'qdtrack', 'reid', 'sort', 'strongsort'),
}
# Their detectors need packages that are not here; tests/views/test_stock_heads.py has their classes.
NEEDS_MORE = {'convnext', 'glip', 'grounding_dino', 'mm_grounding_dino', 'timm_example'}
LISTED = re.findall(r'`(mmdet::[^`]+)`', (Path(__file__).parents[2] / 'docs/models.md').read_text())
HEADER = """# What is refused, and why

Every architecture of mmdet, by one of its stock configs, with the kinds of knowledge that its heads serve and the
sentence that a build stops with for the others of [its family](models.md), here for a student. Backbone and neck can be
compared in all of them but TridentNet, which can be a teacher, but no student.

This page is written by a test: `KDDENSE_WRITE=1 pytest tests/views/test_model_walk.py`.

| Stock config | Served | Refused |
|---|---|---|
"""


def architectures() -> dict[str, str]:
    """Return a stock config, ``'mmdet::path'``, for each folder of mmdet's configs that has a detector."""
    origin = find_spec('mmdet').origin
    root = Path(origin).parent / '.mim' / 'configs'
    found = {}
    for folder in sorted(root.iterdir()):
        configs = sorted(folder.glob('*.py'), key=lambda path: (len(path.name), path.name))
        if folder.name not in NO_DETECTOR | NEEDS_MORE and configs:
            found[folder.name] = f'mmdet::{folder.name}/{configs[0].name}'
    return {**found, **{path.split('::')[1].split('/')[0]: path for path in reversed(LISTED)}}


def said_of(path: str) -> dict[str, str | None]:
    """Return, for every kind that there is, ``None`` if a model serves it, else the sentence that refuses it."""
    with stock_models.weights_as_they_come():
        view = build_view(stock_models.build(stock_models.small_model(path), 'mmdet'), 'student')
    said: dict[str, str | None] = {}
    families = [one for one in VIEWS.module_dict.values() if one.__module__.startswith('kddense.')]
    for kind in sorted(set().union(*(family.explains for family in families))):
        try:
            view.check(kind)
            said[kind] = None
        except ViewError as error:
            said[kind] = str(error)
    return said


def page() -> str:
    """Return the page."""
    return HEADER + '\n'.join(map(_row, architectures().values())) + '\n'


def _row(path: str) -> str:
    said = said_of(path)
    served = ', '.join(f'`{kind}`' for kind, sentence in said.items() if sentence is None)
    return f'| `{path}` | {served or "—"} | {"; ".join(_reasons(said)) or "—"} |'


def _reasons(said: dict[str, str | None]) -> Iterator[str]:
    """Yield why kinds are refused that the model could be thought to serve; of one that serves none, why each is."""
    refused = {kind: sentence for kind, sentence in said.items() if sentence}
    of_its_family = {kind: sentence for kind, sentence in refused.items() if ' has no ' not in sentence}
    shown = of_its_family if of_its_family or len(refused) < len(said) else refused
    for sentence in dict.fromkeys(shown.values()):
        kinds = ', '.join(f'`{kind}`' for kind, one in shown.items() if one == sentence)
        yield f'{kinds}: {sentence}'
