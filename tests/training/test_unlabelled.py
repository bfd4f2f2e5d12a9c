"""Images without labels: the teacher speaks of them, the student's own losses do not."""

import copy
import re
import shutil

import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler, MultiDataAspectRatioBatchSampler
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, SequentialSampler

from kddense.configs import find_config, read_config_file
from kddense.datasets import UnlabelledImages
from kddense.training.unlabelled import _batch_size, pipeline_without_labels, training_pipeline

from ..helpers import mask_models, segmentors, tiny, transformers
from ..helpers.cached import on_variants, with_cache
from ..helpers.depth_estimators import BINS, depth_data, depth_estimator
from ..helpers.toy_task import losses_of


@pytest.fixture(scope='session')
def frames(toy_data, tmp_path_factory):
    """A folder of five images without labels."""
    folder = tmp_path_factory.mktemp('frames')
    for index in range(5):
        shutil.copy(toy_data / 'images' / f'{index}.png', folder / f'{index}.png')
    return folder


def unlabelled(folder, **options):
    images = dict(type='BaseSegDataset', data_prefix=dict(img_path=str(folder)), img_suffix='.png')
    return dict(dict(type='kddense.UnlabelledImagesHook', dataset=images), **options)


def short(task, *hooks, iterations=1, objectives=None, **options):
    """Return the config of a training of a few iterations, without validation."""
    config = task.distilled(objectives, train_cfg__max_iters=iterations, **options)
    config.custom_hooks = list(hooks)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    return config


def watched(task, config, folder):
    """Train; return the runner, and the inputs, the samples and the losses of each step."""
    runner = task.runner(config, folder)
    steps = []
    loss = runner.model.loss

    def noted(inputs, data_samples):
        losses = loss(inputs, data_samples)
        steps.append(dict(inputs=inputs, samples=data_samples, losses=losses))
        return losses

    runner.model.loss = noted
    runner.train()
    return runner, steps


@pytest.mark.parametrize('ratio, more', [(1, 2), (2.5, 5), (0.5, 1)])
def test_every_batch_grows_by_the_ratio(segmentor, frames, tmp_path, ratio, more):
    _, steps = watched(segmentor, short(segmentor, unlabelled(frames, ratio=ratio), iterations=2), tmp_path)
    for step in steps:
        assert len(step['inputs']) == 2 + more
        assert [sample.metainfo.get('unlabelled', False) for sample in step['samples']] == [False] * 2 + [True] * more
        assert ['gt_sem_seg' in sample for sample in step['samples']] == [True] * 2 + [False] * more


def test_the_students_own_losses_are_of_the_labelled_images(segmentor, frames, tmp_path):
    """Computed anew, from what the heads returned for them in the same forward pass."""
    runner = segmentor.runner(short(segmentor, unlabelled(frames)), tmp_path)
    student, loss, seen = runner.model.student, runner.model.loss, {}
    heads = dict(decode=student.decode_head, aux=student.auxiliary_head)
    heard = {prefix: segmentors.listen(head) for prefix, head in heads.items()}

    def noted(inputs, data_samples):
        seen.update(samples=data_samples, losses=loss(inputs, data_samples))
        return seen['losses']

    runner.model.loss = noted
    runner.train()
    for prefix, head in heads.items():
        (logits,) = heard[prefix]['logits']
        assert len(logits) == 4
        alone = head.loss_by_feat(logits[:2], seen['samples'][:2])
        for key in ('loss_ce', 'acc_seg'):
            torch.testing.assert_close(seen['losses'][f'{prefix}.{key}'], alone[key])


def test_distillation_is_of_all_images(segmentor, frames, tmp_path):
    runner = segmentor.runner(short(segmentor, unlabelled(frames)), tmp_path)
    objective, seen = runner.model.objectives['soft'], {}
    forward = objective.forward

    def noted(ours, theirs):
        seen.update(student=ours.taps['decode_head'], teacher=theirs.taps['decode_head'], losses=forward(ours, theirs))
        return seen['losses']

    objective.forward = noted
    runner.train()
    assert len(seen['student']) == len(seen['teacher']) == 4
    rows = (seen[side].detach().double().permute(0, 2, 3, 1).reshape(-1, 4) for side in ('student', 'teacher'))
    expected = torch.stack([objective.loss(own[None], other[None]) for own, other in zip(*rows, strict=True)]).mean()
    assert seen['losses']['loss'].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_pixel_objectives_compare_all_of_an_unlabelled_image(segmentor, frames, tmp_path):
    config = dict(it=dict(type='kddense.PixelWiseObjective', ignore_unlabelled_pixels=True))
    runner = segmentor.runner(short(segmentor, unlabelled(frames), objectives=config), tmp_path)
    objective, valid = runner.model.objectives['it'], []
    judge = objective.judge
    objective.judge = lambda index, sample, *rest: valid.append(sample.valid) or judge(index, sample, *rest)
    runner.train()
    assert valid[0].shape == (4, 64, 64)
    assert valid[0][2:].all()


def test_a_distiller_without_objectives(segmentor, frames, tmp_path):
    _, (step,) = watched(segmentor, short(segmentor, unlabelled(frames), objectives={}), tmp_path)
    assert len(step['inputs']) == 4
    assert set(step['losses']) == {'decode.loss_ce', 'decode.acc_seg', 'aux.loss_ce', 'aux.acc_seg'}


def test_the_images_take_turns_in_an_order_of_the_seed(segmentor, frames, tmp_path):
    def paths(iterations):
        config = short(segmentor, unlabelled(frames), iterations=iterations)
        _, steps = watched(segmentor, config, tmp_path / str(iterations))
        return [sample.img_path for step in steps for sample in step['samples'][2:]]

    shown = paths(5)
    assert sorted(shown) == sorted(2 * [str(path) for path in frames.iterdir()])
    assert shown[:4] == paths(2)


def test_resumed_runs_continue_bit_for_bit(segmentor, frames, tmp_path, logged_losses):
    def config(**options):
        keeping = dict(default_hooks__checkpoint__interval=2)
        changed = short(
            segmentor, unlabelled(frames), dict(type='kddense.RandomStateHook'), iterations=5, **keeping, **options
        )
        changed.param_scheduler = None
        return changed

    whole = segmentor.train(config(), tmp_path / 'whole')
    kept = str(tmp_path / 'whole' / 'iter_2.pth')
    resumed = segmentor.train(config(load_from=kept, resume=True), tmp_path / 'resumed')
    assert resumed.iter == 5
    one, other = (runner.model.state_dict() for runner in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)
    one, other = (logged_losses(runner.message_hub) for runner in (whole, resumed))
    assert one == other
    assert len(one['distill.soft.loss']) == 5


# --- the pipeline -------------------------------------------------------------------------------------------------------


def test_the_training_pipeline_without_what_needs_labels():
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='mmseg.LoadAnnotations', reduce_zero_label=True),
        dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
        dict(type='RandomCrop', crop_size=(32, 32), cat_max_ratio=0.75),
        dict(type='PackSegInputs'),
    ]
    before = copy.deepcopy(pipeline)
    assert pipeline_without_labels(pipeline) == [
        dict(type='LoadImageFromFile'),
        dict(type='RandomCrop', crop_size=(32, 32), cat_max_ratio=1.0),
        dict(type='PackSegInputs'),
    ]
    assert pipeline == before


def test_steps_in_other_steps():
    mosaic, crop, flip = (
        dict(type='mmdet.CachedMosaic'),
        dict(type='RandomCrop', cat_max_ratio=0.5),
        dict(type='RandomFlip'),
    )
    load = dict(type='LoadAnnotations')
    pipeline = [
        dict(type='RandomChoice', transforms=[[mosaic, flip], load, flip], prob=[0.2, 0.3, 0.5]),
        dict(type='RandomApply', transforms=crop, prob=0.5),
        flip,
    ]
    assert pipeline_without_labels(pipeline) == [
        dict(type='RandomChoice', transforms=[[flip], [], [flip]], prob=[0.2, 0.3, 0.5]),
        dict(type='RandomApply', transforms=[dict(crop, cat_max_ratio=1.0)], prob=0.5),
        flip,
    ]


STOCK = (
    *('rtmdet/rtmdet_s_8xb32-300e_coco', 'rtmdet/rtmdet-ins_s_8xb32-300e_coco', 'ssd/ssd300_coco'),
    *('yolo/yolov3_d53_8xb8-ms-608-273e_coco', 'yolox/yolox_s_8xb8-300e_coco', 'detr/detr_r50_8xb2-150e_coco'),
    *('centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco'),
    *('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', 'dino/dino-4scale_r50_8xb2-12e_coco'),
    'simple_copy_paste/mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-90k_coco',
)


@pytest.mark.parametrize('name', [name.partition('/')[0] for name in STOCK])
def test_stock_pipelines_without_what_needs_labels(name, frames):
    file = next(one for one in STOCK if one.startswith(f'{name}/'))
    config = read_config_file(find_config(f'mmdet::{file}.py'))
    pipeline = training_pipeline(config.train_dataloader.dataset)
    kept = pipeline_without_labels(pipeline)
    assert kept[-1]['type'] == 'PackDetInputs'
    with DefaultScope.overwrite_default_scope('mmdet'):
        data = UnlabelledImages(str(frames), pipeline=kept)
    for index in range(3):
        packed = data[index]
        assert packed['inputs'].shape[0] == 3
        assert packed['data_samples'].unlabelled


def test_the_default_pipeline_is_that_of_the_training_images(segmentor, frames, tmp_path):
    config = short(segmentor, unlabelled(frames))
    crop = dict(type='RandomCrop', crop_size=(32, 48), cat_max_ratio=0.75)
    config.train_dataloader.dataset.pipeline.insert(2, crop)
    config.model.student.data_preprocessor.size = (32, 48)
    _, (step,) = watched(segmentor, config, tmp_path)
    assert step['inputs'].shape == (4, 3, 32, 48)


def test_the_pipeline_of_a_wrapped_dataset_is_found(segmentor, frames, tmp_path):
    config = short(segmentor, unlabelled(frames))
    config.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=config.train_dataloader.dataset)
    _, (step,) = watched(segmentor, config, tmp_path)
    assert len(step['inputs']) == 4


def test_wrapped_data_sets_of_both(segmentor, frames, tmp_path, monkeypatch):
    """The first of several gives the pipeline; each of the unlabelled ones gets it."""
    said = []
    monkeypatch.setattr('kddense.training.unlabelled.print_log', lambda text, **_: said.append(text))
    config = short(segmentor, unlabelled(frames), iterations=3)
    dataset = config.train_dataloader.dataset
    dataset.pipeline.insert(2, dict(type='RandomMosaic', prob=0.0))
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[dataset, dataset])
    images = dict(type='kddense.UnlabelledImages', images=str(frames))
    named = dict(type='kddense.NamedDataset', called='drive', dataset=images)
    config.custom_hooks[0]['dataset'] = dict(type='ConcatDataset', datasets=[named, images])
    _, steps = watched(segmentor, config, tmp_path)
    added = [sample for step in steps for sample in step['samples'][2:]]
    assert all(sample.unlabelled and 'gt_sem_seg' not in sample for sample in added)
    assert {sample.metainfo.get('dataset') for sample in added} == {'drive', None}
    assert 'pass the training pipeline without RandomMosaic, which need boxes or other images' in said[0]


def test_what_a_teacher_says_of_variants_of_them_is_kept(segmentor, frames, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr('kddense.teachers.cache.telling.print_log', lambda text, **_: told.append(text))
    config = on_variants(short(segmentor, unlabelled(frames), iterations=6), variants=2)
    images = config.custom_hooks[0]['dataset']
    config.custom_hooks[0]['dataset'] = dict(type='kddense.VariantDataset', variants=2, dataset=images)
    runs = [segmentor.train(config, tmp_path / 'online')]
    for turn in range(2):
        runs.append(segmentor.train(with_cache(config, tmp_path / 'cache'), tmp_path / str(turn)))
        runs[-1].model.teachers['teacher'].store.flush()
    online, cold, warm = (losses_of(one.message_hub) for one in runs)
    assert len(online['loss']) == 6
    assert online == cold == warm
    assert [one.model.teachers['teacher'].asked for one in runs[1:]] == [6, 0]
    space = [re.search(r'(\d+) images x 2 variants .* take ([\d.e-]+) GiB', one) for one in told if 'are free' in one]
    labelled = len(runs[1].train_dataloader.dataset)
    assert [int(one[1]) for one in space] == [labelled, 5]
    assert float(space[1][2]) == pytest.approx(float(space[0][2]) * (labelled + 5) / labelled, rel=0.01)


def test_a_pipeline_of_its_own(segmentor, frames, tmp_path):
    hook = unlabelled(frames)
    resize = dict(type='Resize', scale=(32, 32))
    hook['dataset']['pipeline'] = [dict(type='LoadImageFromFile'), resize, dict(type='PackSegInputs')]
    _, (step,) = watched(segmentor, short(segmentor, hook), tmp_path)
    assert [tuple(sample.img_shape) for sample in step['samples']] == [(64, 64)] * 2 + [(32, 32)] * 2


# --- what does not fit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'ratio, expected',
    [
        (0, r'^custom_hooks.UnlabelledImagesHook.ratio must be above 0, got 0'),
        (-1, r'^custom_hooks.UnlabelledImagesHook.ratio must be above 0, got -1'),
        (0.2, r'^custom_hooks: 0.2 unlabelled images for each of 2 are less than one image: raise the ratio'),
    ],
)
def test_ratios_that_give_no_image(segmentor, frames, tmp_path, ratio, expected):
    with pytest.raises(ValueError, match=expected):
        segmentor.train(short(segmentor, unlabelled(frames, ratio=ratio)), tmp_path)


def test_batch_samplers_of_the_config():
    """mmdet's one of several data sets has a size for each."""
    sampler = SequentialSampler(ConcatDataset([range(3), range(3)]))
    one, several = (
        AspectRatioBatchSampler(sampler, 4),
        MultiDataAspectRatioBatchSampler(sampler, [8, 2], num_datasets=2),
    )
    assert _batch_size(DataLoader(sampler.data_source, batch_sampler=one)) == 4
    assert _batch_size(DataLoader(sampler.data_source, batch_sampler=several)) == 5


def test_an_empty_folder(segmentor, tmp_path):
    (tmp_path / 'nothing').mkdir()
    with pytest.raises(ValueError, match=r'^custom_hooks.UnlabelledImagesHook.dataset: there is no image in .*nothing'):
        segmentor.train(short(segmentor, unlabelled(tmp_path / 'nothing')), tmp_path / 'run')


@pytest.mark.parametrize(
    'change, expected',
    [
        (dict(type='kddense.UnlabeledImages'), r".type: there is no 'kddense.UnlabeledImages'.*UnlabelledImages"),
        (dict(images='nowhere'), r" \(kddense.UnlabelledImages\) cannot be built: there is no image in 'nowhere'"),
        (dict(pipeline=[dict(type='RandomFlip', prob=0.5)]), r'.pipeline must end with a step that packs'),
        (
            dict(pipeline=[dict(type='GenerateEdge'), dict(type='PackSegInputs')]),
            r".pipeline: its step GenerateEdge cannot be applied to an image without labels \(the key 'gt_seg_map' is miss",
        ),
        (
            dict(images='broken'),
            r'.images: none of the 1 images can be read, the first is broken.x.png',
        ),
    ],
)
def test_data_sets_that_do_not_fit(segmentor, frames, tmp_path, monkeypatch, change, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'x.png').write_bytes(b'no image')
    images = dict(dict(type='kddense.UnlabelledImages', images=str(frames)), **change)
    with pytest.raises((ValueError, FileNotFoundError), match=f'^custom_hooks.UnlabelledImagesHook.dataset{expected}'):
        segmentor.train(short(segmentor, unlabelled(frames, dataset=images)), tmp_path / 'run')


def without_labels(data, *which):
    for index in which:
        data['data_samples'][index].set_metainfo(dict(unlabelled=True))
    return data


DETECTORS = {
    'faster_rcnn': tiny.faster_rcnn,
    'cascade_rcnn': tiny.cascade_rcnn,
    'retinanet': lambda **options: tiny.single_stage('retinanet', **options),
    'fcos': lambda **options: tiny.single_stage('fcos', **options),
}
HINT = dict(hint=dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1]))
ROIS = dict(roi=dict(type='kddense.ChenRoIObjective'))
PYRAMID = dict(hint=dict(type='kddense.FeatureObjective', tap='neck', loss=dict(type='kddense.PKDLoss')))


def detection_data(count):
    return tiny.detection_data(sizes=[(64, 64)] * count, boxes=[tiny.BOXES[index % 2 :] for index in range(count)])


def detection_without_labels(count, *which):
    data = without_labels(detection_data(count), *which)
    for index in which:
        data['data_samples'][index].gt_instances = InstanceData()  # as mmdet packs an image without labels
    return data


@pytest.mark.parametrize('name', list(DETECTORS))
def test_detectors_learn_from_their_features(name):
    """Their own losses are those of the labelled images: computed anew with the other's features out of the way."""
    make = DETECTORS[name]
    model = tiny.distiller(make(), make(width=12), PYRAMID)
    model.student.eval()  # norms and dropout rest, so that images do not know of each other
    mixed = detection_without_labels(3, 1)
    alone = detection_data(3)
    alone = {key: [one for index, one in enumerate(values) if index != 1] for key, values in alone.items()}
    torch.manual_seed(0)
    losses = model(**model.data_preprocessor(mixed, True), mode='loss')
    torch.manual_seed(0)
    expected = model(**model.data_preprocessor(alone, True), mode='loss')
    assert losses.keys() == expected.keys()
    for key, value in losses.items():
        if key.startswith('distill'):
            assert value != expected[key]
        else:
            torch.testing.assert_close(tiny.total({key: value}), tiny.total({key: expected[key]}), rtol=1e-4, atol=1e-5)


def _weights_that_learned_without_labels(model):
    """Return the student's weights, with gradients, after a step on a batch without any label."""
    losses = tiny.step(model, detection_without_labels(2, 0, 1))
    assert losses['loss_unlabelled'] == 0
    assert losses['distill.hint.loss'] > 0
    tiny.total(losses).backward()
    weights = dict(model.student.named_parameters())
    assert not [name for name, one in weights.items() if one.requires_grad and one.grad is None]
    return weights


@pytest.mark.parametrize('name', list(DETECTORS))
def test_a_batch_of_a_detector_may_be_wholly_unlabelled(name):
    make = DETECTORS[name]
    model = tiny.distiller(make(), make(width=12), PYRAMID)
    weights = _weights_that_learned_without_labels(model)
    assert weights['neck.fpn_convs.0.conv.weight'].grad.any()
    assert not any(one.grad.any() for name, one in weights.items() if '_head' in name)


@pytest.mark.parametrize('name', list(DETECTORS))
def test_heads_speak_without_any_label_where_other_processes_wait(name, monkeypatch):
    """Their losses are means over all processes: one that skipped them would be waited for."""
    monkeypatch.setattr('mmengine.dist.get_world_size', lambda *_: 2)
    model = tiny.distiller(DETECTORS[name](), DETECTORS[name](width=12), PYRAMID)
    losses = tiny.step(model, detection_without_labels(2, 0, 1))
    own = {key: tiny.total({key: value}) for key, value in losses.items() if 'loss' in key and 'distill' not in key}
    assert {key for key in own if 'cls' in key}, 'the heads were asked'
    assert set(map(float, own.values())) == {0.0}
    tiny.total(losses).backward()
    assert not [key for key, one in model.student.named_parameters() if one.requires_grad and one.grad is None]


OTHERS = {
    'detr': lambda: transformers.detr('dab'),
    'mask2former': mask_models.mask2former,
    'solo': mask_models.solo,
    'condinst': mask_models.condinst,
}


@pytest.mark.parametrize('name', list(OTHERS))
def test_a_batch_of_other_detectors_is_wholly_unlabelled_or_not_at_all(name):
    model = tiny.distiller(OTHERS[name](), OTHERS[name](), HINT)
    weights = _weights_that_learned_without_labels(model)
    assert any(one.grad.any() for name, one in weights.items() if name.startswith('backbone') and one.requires_grad)
    with pytest.raises(ValueError, match=r'^student \(\w+\) cannot learn from unlabelled images beside labelled ones'):
        tiny.step(model, detection_without_labels(2, 1))


@pytest.mark.parametrize('name', list(OTHERS))
def test_other_detectors_wait_for_other_processes_too(name, monkeypatch):
    monkeypatch.setattr('mmengine.dist.get_world_size', lambda *_: 2)
    model = tiny.distiller(OTHERS[name](), OTHERS[name](), HINT)
    losses = tiny.step(model, detection_without_labels(2, 0, 1))
    own = {key: tiny.total({key: value}) for key, value in losses.items() if 'loss' in key and 'distill' not in key}
    assert len(own) > 1, 'the heads were asked'
    assert set(map(float, own.values())) == {0.0}


@pytest.mark.parametrize('batch_sampler', [None, dict(type='mmdet.AspectRatioBatchSampler')])
def test_detectors_train_with_the_hook(batch_sampler, detector, frames, tmp_path):
    """Of features and of RoIs; mmdet's own configs have a batch sampler."""
    images = dict(type='kddense.UnlabelledImages', images=str(frames))
    hook = dict(type='kddense.UnlabelledImagesHook', dataset=images)
    config = detector.distilled({**PYRAMID, **ROIS}, train_cfg__max_epochs=1)
    config.custom_hooks = [hook]
    config.train_dataloader.batch_sampler = batch_sampler
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    _, steps = watched(detector, config, tmp_path)
    assert len(steps) == 4
    for step in steps:
        assert [sample.metainfo.get('unlabelled', False) for sample in step['samples']] == [False] * 2 + [True] * 2
        assert step['losses']['distill.hint.loss'] > 0
        assert step['losses']['distill.roi.loss_cls'] > 0


def test_workers_that_stay_and_tell_their_random_state(detector, frames, tmp_path):
    images = dict(type='kddense.UnlabelledImages', images=str(frames))
    workers = dict(train_dataloader__num_workers=1, train_dataloader__persistent_workers=True)
    config = detector.distilled(PYRAMID, train_cfg__max_epochs=1, **workers)
    config.custom_hooks = [
        dict(type='kddense.UnlabelledImagesHook', dataset=images),
        dict(type='kddense.RandomStateHook'),
    ]
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    _, steps = watched(detector, config, tmp_path)
    assert {len(step['samples']) for step in steps} == {4}


@pytest.mark.parametrize('student', ['pspnet_r50-d8', 'ocrnet_r50-d8'])
def test_a_batch_may_be_wholly_unlabelled(student):
    """Then the student's own losses are zeros under their names that reach every weight, and objectives teach it."""
    model = tiny.distiller(tiny.segmentor(student), tiny.segmentor('pspnet_r50-d8', width=12), HINT, scope='mmseg')
    expected = {name for name in tiny.step(model, tiny.segmentation_data()) if 'loss' in name}
    losses = tiny.step(model, without_labels(tiny.segmentation_data(), 0, 1))
    assert set(losses) == expected
    assert all((value == 0) == (name != 'distill.hint.loss') for name, value in losses.items())
    tiny.total(losses).backward()
    weights = dict(model.student.named_parameters())
    assert not [name for name, one in weights.items() if one.grad is None]
    assert all(
        one.grad.any() == name.startswith('backbone') for name, one in weights.items() if name.endswith('conv1.weight')
    )


@pytest.mark.parametrize('name', ['masks', 'depth', 'bins'])
def test_a_batch_of_masks_or_depth_may_be_wholly_unlabelled(name):
    masks = name == 'masks'
    make = mask_models.mask_segmentor if masks else lambda: depth_estimator(*([BINS] if name == 'bins' else []))
    model = tiny.distiller(make(), make(), HINT, scope='mmseg')
    losses = tiny.step(model, without_labels(tiny.segmentation_data() if masks else depth_data(), 0, 1))
    assert [key for key, value in losses.items() if 'loss' in key and value != 0] == ['distill.hint.loss']
    tiny.total(losses).backward()
    weights = dict(model.student.named_parameters())
    assert not [key for key, one in weights.items() if one.requires_grad and one.grad is None]
    assert weights['backbone.layer1.0.conv1.weight'].grad.any()


def test_mask_heads_of_segmentors_wait_for_other_processes(monkeypatch):
    monkeypatch.setattr('mmengine.dist.get_world_size', lambda *_: 2)
    model = tiny.distiller(mask_models.mask_segmentor(), mask_models.mask_segmentor(), HINT, scope='mmseg')
    data = without_labels(tiny.segmentation_data(), 0, 1)
    for sample in data['data_samples']:
        del sample.gt_sem_seg
    losses = tiny.step(model, data)
    assert any('loss_mask' in key for key in losses), 'the head was asked'
    assert [key for key, value in losses.items() if 'loss' in key and value != 0] == ['distill.hint.loss']


@pytest.mark.parametrize('name, loss', [('encnet', 'decode.loss_ce'), ('ocrnet', 'decode_1.loss_ce')])
def test_heads_with_several_outputs_and_cascades_leave_them_out(name, loss):
    student = segmentors.encnet() if name == 'encnet' else tiny.segmentor('ocrnet_r50-d8')
    model = tiny.distiller(student, tiny.segmentor('pspnet_r50-d8'), {}, scope='mmseg')
    heard = segmentors.listen(segmentors.last_head(model.student))
    data = without_labels(tiny.segmentation_data(count=3), 1)
    losses = tiny.step(model, data)
    (logits,) = heard['logits']
    labels = torch.cat([data['data_samples'][index].gt_sem_seg.data for index in (0, 2)])
    enlarged = F.interpolate(logits[[0, 2]], (64, 64), mode='bilinear', align_corners=False)
    torch.testing.assert_close(losses[loss], F.cross_entropy(enlarged, labels))
    assert torch.isfinite(tiny.total(losses))


def test_heads_of_points_cannot_learn_from_them():
    model = tiny.distiller(segmentors.pointrend(), tiny.segmentor('pspnet_r50-d8'), {}, scope='mmseg')
    with pytest.raises(ValueError, match=r'^student.decode_head.1 samples labelled points: it cannot learn from unlab'):
        tiny.step(model, without_labels(tiny.segmentation_data(), 1))


def test_the_heads_are_left_as_they_were():
    model = tiny.distiller(tiny.segmentor('pspnet_r50-d8'), tiny.segmentor('pspnet_r50-d8'), {}, scope='mmseg')
    losses = tiny.step(model, without_labels(tiny.segmentation_data(count=3), 1))
    assert losses['decode.loss_ce'] > 0
    assert not any('loss_by_feat' in vars(module) for module in model.modules())


@pytest.mark.parametrize('name', ['segmentor', 'detector', 'depth'])
def test_features_are_learned_without_any_label(name, request, frames, tmp_path):
    """A distilling config whose training images are unlabelled; the plain config goes on from its checkpoint."""
    task = request.getfixturevalue(name)
    config = task.distilled(HINT)
    pipeline = pipeline_without_labels(config.train_dataloader.dataset.pipeline)
    config.train_dataloader.dataset = dict(type='kddense.UnlabelledImages', images=str(frames), pipeline=pipeline)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    config.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    _, steps = watched(task, config, tmp_path)
    for step in steps:
        assert all(sample.metainfo['unlabelled'] for sample in step['samples'])
        assert step['losses']['distill.hint.loss'] > 0
        assert tiny.total({key: one for key, one in step['losses'].items() if not key.startswith('distill')}) == 0
    plain = task.build(task.plain().model)
    saved = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['state_dict']
    plain.load_state_dict(saved, strict=True)


@pytest.mark.parametrize('is_measured_on', [True, False])
def test_validation_images_among_them_are_told(is_measured_on, segmentor, frames, toy_data, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('kddense.training.unlabelled.print_log', lambda text, **_: said.append(text))
    config = segmentor.distilled(train_cfg__max_iters=1)
    config.custom_hooks = [unlabelled(toy_data / 'images' if is_measured_on else frames)]
    segmentor.train(config, tmp_path)

    assert any('of the images without labels are validation images' in text for text in said) == is_measured_on
