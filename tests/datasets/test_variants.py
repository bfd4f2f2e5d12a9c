"""Variants of images: the same whenever they are drawn, in every worker and order; what cannot be, is refused."""

from __future__ import annotations

import os
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner

from kddense.datasets import VARIANT, VariantDataset
from kddense.datasets.samplers import Draw

from ..helpers.cached import on_variants


@pytest.fixture(scope='module')
def loader_of():
    """The function that builds the training loader of a task's config, with changes to its pipeline."""

    def build(task, added=(), variants=2, workers=0, seed=3, wrap=None, variant_seed=0):
        config = task.plain()
        config.train_dataloader.dataset.pipeline[-1:-1] = added
        if wrap is not None:
            config.train_dataloader.dataset = wrap(config.train_dataloader.dataset)
        config = on_variants(config, variants, seed=variant_seed)
        config.train_dataloader.num_workers = workers
        task._import()
        return Runner.build_dataloader(config.train_dataloader, seed=seed)

    return build


def drawn(loader, count=8):
    """Return images and boxes of the first so many batches, by image and variant."""
    found = {}
    iterator = iter(loader)
    for _ in range(count):
        try:
            batch = next(iterator)
        except StopIteration:
            break
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
            about = sample.metainfo[VARIANT]
            found.setdefault((about['image'], about['variant']), []).append((image, about['pixels']))
    return found


def assert_all_same(found, other):
    for key in found.keys() & other.keys():
        for image, pixels in found[key]:
            for again, same in other[key]:
                assert torch.equal(image, again)
                assert pixels == same


def test_a_variant_is_the_same_in_every_worker_and_order(segmentor, loader_of):
    runs = [drawn(loader_of(segmentor, workers=workers, seed=seed), 16) for workers, seed in ((0, 3), (2, 3), (0, 4))]
    assert runs[0].keys() == {(image, variant) for image in range(8) for variant in range(2)}
    assert all(len(images) == 2 for images in runs[0].values())  # four passes, two variants
    for other in runs:
        assert_all_same(runs[0], other)
    first, second = runs[0][0, 0][0][0], runs[0][0, 1][0][0]
    assert not torch.equal(first, second)


def test_epochs_are_variants(detector, loader_of):
    loader = loader_of(detector)
    found = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        found.append(drawn(loader))
        assert found[-1].keys() == {(image, epoch % 2) for image in range(8)}
    assert_all_same(found[0], found[2])


def test_another_seed_draws_other_variants(segmentor, loader_of):
    one, other = drawn(loader_of(segmentor)), drawn(loader_of(segmentor, variant_seed=1))
    same = [torch.equal(one[key][0][0], other[key][0][0]) for key in one.keys() & other.keys()]
    assert same
    assert sum(same) < len(same) / 4  # some happen to be drawn alike


def test_order_and_number_of_images_are_the_stock_samplers(segmentor, detector, loader_of):
    for task in (segmentor, detector):
        config = task.plain()
        task._import()
        stock = Runner.build_dataloader(config.train_dataloader, seed=3)
        own = loader_of(task)
        assert len(own.dataset) == len(stock.dataset)
        orders = [[int(index) for index, _ in zip(one.sampler, range(24), strict=False)] for one in (stock, own)]
        assert orders[0] == orders[1]
        assert own.dataset.metainfo == stock.dataset.metainfo


def test_random_numbers_around_it_do_not_move(detector, loader_of):
    dataset = loader_of(detector).dataset
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    dataset[Draw(0, 1)]
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_mosaics_and_mixed_images_are_drawn_again_too(detector, loader_of):
    def wrap(dataset):
        *loading, packing = dataset.pipeline[:2], dataset.pipeline[-1]
        dataset.pipeline = loading[0]
        mixing = [
            dict(type='Mosaic', img_scale=(64, 64)),
            dict(type='MixUp', img_scale=(64, 64)),
            dict(type='RandomFlip', prob=0.5),
            packing,
        ]
        return dict(type='MultiImageMixDataset', dataset=dataset, pipeline=mixing)

    runs = [drawn(loader_of(detector, wrap=wrap, seed=seed, workers=workers)) for seed, workers in ((3, 0), (9, 2))]
    assert len(runs[0]) == 8
    assert_all_same(*runs)
    assert len({pixels for images in runs[0].values() for _, pixels in images}) == 8


def test_what_is_said_of_an_image_is_plain_data(detector, loader_of):
    about = loader_of(detector).dataset[Draw(5, 3)]['data_samples'].metainfo[VARIANT]
    assert {key: about[key] for key in ('image', 'variant', 'images', 'variants', 'seed')} == dict(
        image=5, variant=1, images=8, variants=2, seed=0
    )
    assert all(isinstance(value, (int, str)) for value in about.values())


def test_pipeline_is_named_by_what_it_does_not_where_it_lies(detector, loader_of):
    def named(**options):
        return loader_of(detector, **options).dataset[Draw(0, 0)]['data_samples'].metainfo[VARIANT]['pipeline']

    def elsewhere(dataset):
        dataset.data_root = os.path.relpath(dataset.data_root) + '/'
        return dataset

    assert named() == named(wrap=elsewhere)
    assert named() != named(added=[dict(type='Resize', scale=(64, 64))])


def test_a_draw_travels_to_workers():
    draw = pickle.loads(pickle.dumps(Draw(4, 7)))
    assert (draw, draw.number) == (4, 7)


@pytest.mark.parametrize('is_named', [False, True])
def test_hooks_may_change_the_pipeline(is_named, detector, loader_of):
    def wrap(dataset):
        return dict(type='kddense.NamedDataset', called='a', dataset=dataset) if is_named else dataset

    dataset = loader_of(detector, wrap=wrap).dataset
    before = dataset[Draw(0, 0)]['data_samples'].metainfo[VARIANT]['pixels']
    dataset.pipeline = type(dataset.pipeline)(
        [t for t in dataset.pipeline.transforms if 'Photo' not in type(t).__name__]
    )
    assert dataset.dataset.pipeline is dataset.pipeline
    assert dataset[Draw(0, 0)]['data_samples'].metainfo[VARIANT]['pixels'] != before


def test_an_image_that_is_kept_for_a_teacher_is_looked_at_too(detector, loader_of):
    keep = [dict(type='kddense.ShrinkForStudent', factor=2)]
    dataset = loader_of(detector, added=keep).dataset
    dataset.dataset.pipeline.transforms[-1].meta_keys = ('img_shape', 'teacher_img')
    results = dataset[Draw(0, 0)]
    from kddense.datasets.variants import pixels_of

    before = pixels_of(results)
    results['data_samples'].teacher_img[0, 0, 0] += 1
    assert pixels_of(results) != before


@TRANSFORMS.register_module(force=True)
class DrawsElsewhere:
    """Moves a pixel by a generator of its own."""

    def __init__(self):
        self.numbers = np.random.default_rng()

    def __call__(self, results):
        results['img'] = results['img'] + self.numbers.random(dtype=np.float32)
        return results


@pytest.mark.parametrize(
    'name, added, words',
    [
        (
            'detector',
            dict(type='DrawsElsewhere'),
            'DrawsElsewhere draws random numbers that torch, numpy and random do not',
        ),
        (
            'segmentor',
            dict(type='DrawsElsewhere'),
            'DrawsElsewhere draws random numbers that torch, numpy and random do not',
        ),
    ],
)
def test_a_source_that_cannot_be_seeded_is_refused(name, added, words, request, loader_of):
    with pytest.raises(ValueError, match=rf'^train_dataloader.dataset.pipeline: {words}') as error:
        loader_of(request.getfixturevalue(name), added=[added])
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('within', [None, 'RandomApply', 'RandomChoice'])
def test_a_transform_that_keeps_images_is_refused(within, detector, loader_of):
    cached = dict(type='CachedMosaic', img_scale=(64, 64), pad_val=114.0)
    if within is not None:
        cached = dict(type=within, transforms=[cached])
    with pytest.raises(ValueError, match=r'^train_dataloader.dataset.pipeline: CachedMosaic keeps images of before'):
        loader_of(detector, added=[cached])


@pytest.mark.parametrize(
    'options, words',
    [(dict(variants=0), 'variants must be at least 1, got 0'), (dict(variants=1.5), 'variants must be a whole number')],
)
def test_bad_options(options, words, detector):
    detector._import()
    inner = detector.plain().train_dataloader.dataset
    with pytest.raises(ValueError, match=f'train_dataloader.dataset.{words}'):
        DATASETS.build(dict(type='kddense.VariantDataset', dataset=inner, **options))


def test_a_stock_sampler_is_refused(detector):
    detector._import()
    dataset = DATASETS.build(
        dict(type='kddense.VariantDataset', dataset=detector.plain().train_dataloader.dataset, variants=2)
    )
    with pytest.raises(ValueError, match=r"^train_dataloader.sampler must be of the type 'kddense.VariantSampler'"):
        dataset[0]
    assert isinstance(dataset, VariantDataset)


def test_others_stand_inside(detector):
    detector._import()
    dataset = detector.plain().train_dataloader.dataset
    inner = dict(type='kddense.VariantDataset', dataset=dataset, variants=2)
    config = detector.plain().train_dataloader
    config.sampler.type = 'kddense.VariantSampler'
    config.dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    with pytest.raises(ValueError, match=r'RepeatDataset\) stand inside of the kddense.VariantDataset'):
        next(iter(Runner.build_dataloader(config, seed=0)))


def test_a_data_set_that_does_not_pack_is_told(detector):
    detector._import()
    dataset = dict(detector.plain().train_dataloader.dataset, pipeline=[])
    with pytest.raises(ValueError, match='gives no data samples: its last transform must pack them'):
        DATASETS.build(dict(type='kddense.VariantDataset', dataset=dataset))


def test_one_variant_needs_no_sampler(detector):
    detector._import()
    dataset = DATASETS.build(dict(type='kddense.VariantDataset', dataset=detector.plain().train_dataloader.dataset))
    assert torch.equal(dataset[3]['inputs'], dataset[3]['inputs'])
