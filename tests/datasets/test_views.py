"""Several variants of an image in a row behind one decoding: the same images as one by one, fewer files read."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, TRANSFORMS

from kddense.datasets import InfiniteVariantSampler, VariantSampler
from kddense.datasets._replay import _prints
from kddense.datasets.samplers import Draw


@pytest.fixture
def dataset_of():
    """The function that builds the training data of a task, on four variants."""

    def build(task, change=None):
        task._import()
        inner = task.plain().train_dataloader.dataset
        inner = change(inner) if change else inner
        return DATASETS.build(dict(type='kddense.VariantDataset', dataset=inner, variants=4))

    return build


@pytest.fixture
def loaded(monkeypatch):
    """The paths of the images that are read, in order."""
    from mmcv.transforms import LoadImageFromFile

    paths, read = [], LoadImageFromFile.transform

    def transform(self, results):
        paths.append(results['img_path'])
        return read(self, results)

    monkeypatch.setattr(LoadImageFromFile, 'transform', transform)
    return paths


@pytest.mark.parametrize('name', ['detector', 'segmentor', 'depth'])
def test_views_are_what_one_by_one_is_and_are_read_once(name, request, dataset_of, loaded):
    dataset = dataset_of(request.getfixturevalue(name))
    alone = [dataset[Draw(index, number)] for index in (3, 5) for number in range(3)]
    loaded.clear()
    behind_one = [dataset[Draw(index, number, again=number < 2)] for index in (3, 5) for number in range(3)]
    assert len(loaded) == 2
    for one, other in zip(alone, behind_one, strict=True):
        assert torch.equal(one['inputs'], other['inputs'])
        assert _prints(one) == _prints(other), 'labels and all'
    assert not torch.equal(behind_one[0]['inputs'], behind_one[1]['inputs'])


def test_an_image_that_is_given_up_is_replaced_as_ever(detector, dataset_of):
    def change(dataset):
        dataset.pipeline[-1:-1] = [dict(type='GivesUpOften')]
        return dataset

    dataset = dataset_of(detector, change)
    draws = [Draw(index, number, again=number < 3) for index in range(8) for number in range(4)]
    found = [dataset[draw] for draw in draws]
    expected = [dataset[Draw(int(draw), draw.number)] for draw in draws]
    replaced = [one['data_samples'].img_id != draw for one, draw in zip(found, draws, strict=True)]
    assert 0 < sum(replaced) < len(draws)
    assert all(torch.equal(one['inputs'], other['inputs']) for one, other in zip(found, expected, strict=True))


@TRANSFORMS.register_module(force=True)
class GivesUpOften:
    """Gives up half of the images, by numpy's random numbers."""

    def __call__(self, results):
        return results if np.random.rand() < 0.5 else None


@pytest.mark.parametrize('views, images', [(1, 8), (2, 8), (4, 8), (3, 10)])
@pytest.mark.parametrize('world', [1, 2])
def test_epochs_are_as_long_as_ever_and_show_each_image_as_often(views, images, world, monkeypatch):
    seen: dict[int, set] = collections.defaultdict(set)
    for rank in range(world):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, world))
        sampler = VariantSampler(range(images), views=views, seed=1)
        for epoch in range(views):
            sampler.set_epoch(epoch)
            draws = list(sampler)
            assert len(draws) == len(sampler) == images // world
            for draw in draws:
                seen[int(draw)].add(draw.number)
    assert sampler.epoch == views - 1
    if images % (views * world) == 0:
        assert seen == {index: set(range(views)) for index in range(images)}
    else:
        assert len(seen) > images // 2


def test_one_view_is_the_stock_order(monkeypatch):
    from mmengine.dataset import DefaultSampler

    stock, own = DefaultSampler(range(9), seed=4), VariantSampler(range(9), seed=4)
    for epoch in range(2):
        stock.set_epoch(epoch)
        own.set_epoch(epoch)
        assert list(stock) == list(own)
        assert {draw.number for draw in own} == {epoch}


@pytest.mark.parametrize('rank', [0, 1])
def test_without_an_end_views_stay_in_one_process(rank, monkeypatch):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, 2))
    draws = list(itertools.islice(iter(InfiniteVariantSampler(range(8), views=3, seed=0)), 24))
    groups = [draws[place : place + 3] for place in range(0, 24, 3)]
    assert all(len(set(group)) == 1 for group in groups)
    assert [[draw.number for draw in group] for group in groups] == [[0, 1, 2]] * 4 + [[3, 4, 5]] * 4
    assert [draw.again for draw in groups[0]] == [True, True, False]


def test_bad_views_are_one_sentence(detector, dataset_of):
    with pytest.raises(ValueError, match='views must be at least 1, got 0'):
        VariantSampler(range(4), views=0)
    mixed = dataset_of(detector, _mixed)
    words = (
        r'^train_dataloader.sampler.views needs a data set whose own pipeline begins by loading, a MultiImageMixDataset'
    )
    with pytest.raises(ValueError, match=words):
        mixed[Draw(0, 0, again=True)]


def _mixed(inner):
    *loading, packing = [*inner.pipeline[:2], inner.pipeline[-1]]
    inner.pipeline = loading
    return dict(type='MultiImageMixDataset', dataset=inner, pipeline=[packing])


@pytest.mark.parametrize(
    'around',
    [
        dict(type='kddense.NamedDataset', called='a', classes=('cross', 'disc', 'square')),
        dict(type='kddense.PseudoLabels'),
    ],
    ids=['named', 'scores'],
)
def test_what_stands_around_the_data_set_sees_every_view(around, detector, dataset_of, loaded):
    dataset = dataset_of(detector, lambda inner: dict(around, dataset=inner))
    alone = [dataset[Draw(3, number)] for number in range(3)]
    loaded.clear()
    behind_one = [dataset[Draw(3, number, again=number < 2)] for number in range(3)]
    assert len(loaded) == 1
    assert [_prints(one) for one in behind_one] == [_prints(one) for one in alone]
