"""The checkpoint is the student's: stock tools load what training with a teacher wrote, and see the same model."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from mmengine.config import Config

from kddense.compat import load_checkpoint
from kddense.export import export_student

from ..helpers.export_runs import TrainedRun


@pytest.fixture
def task_of_story(story):
    return story.task


@pytest.fixture
def saved(story):
    return load_checkpoint(story.resumed)


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
        yield from tensors_in(getattr(value, '_metadata', None))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def newest_json(folder, key):
    """Return the last entry with ``key`` in the logs that a stock script left in its working directory."""
    logs = sorted(path for path in folder.rglob('*.json') if not path.name.endswith('.bbox.json'))
    lines = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    return [line for line in lines if key in line][-1]


def test_it_holds_the_keys_of_the_plain_student(story, task_of_story, saved):
    expected = task_of_story.build(task_of_story.plain().model).state_dict()
    assert list(saved['state_dict']) == list(expected)
    for key, value in expected.items():
        assert (saved['state_dict'][key].shape, saved['state_dict'][key].dtype) == (value.shape, value.dtype), key


def test_torch_loads_it_strictly_into_the_plain_student(story, task_of_story, saved):
    plain = task_of_story.build(task_of_story.plain().model)
    plain.load_state_dict(saved['state_dict'], strict=True)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, saved['state_dict'][key]), key


def test_versions_of_layers_are_named_as_the_plain_student_names_them(story, task_of_story, saved):
    """By these, batch norms and detection heads know how to read old checkpoints."""
    versions = dict(saved['state_dict']._metadata)
    expected = task_of_story.build(task_of_story.plain().model).state_dict()._metadata
    assert {key: versions[key]['version'] for key in expected} == {key: expected[key]['version'] for key in expected}


def test_the_teacher_is_not_in_the_file(story, task_of_story, saved):
    teacher = load_checkpoint(task_of_story.teacher['checkpoint'])
    convolutions = {value.numpy().tobytes() for value in teacher.values() if value.dim() == 4}
    kept = {value.numpy().tobytes() for value in tensors_in(saved)}
    assert len(convolutions) > 10
    assert not kept & convolutions


def test_what_objectives_learn_is_kept_beside_the_weights(story, task_of_story, saved):
    own = saved['state_dict']._metadata['']['kddense']
    learning = dict(structured={'cwd', 'holistic'}, one_stage={'hint', 'holistic'}, depth={'hint', 'holistic'})
    expected = learning.get(task_of_story.name, {'hint'})
    assert {name.split('.')[1] for name in own} == expected
    assert not any(name in key for name in (*expected, 'connector', 'discriminator') for key in saved['state_dict'])


def test_resuming_restores_objectives_and_optimizers(story, task_of_story, tmp_path):
    runner = story.runner
    saved = {name: value.clone() for name, value in runner.model.objectives.state_dict().items()}
    momenta = [value.clone() for value in tensors_in(runner.optim_wrapper.state_dict())]

    config = Config.fromfile(story.folder / 'whole.py')
    config.randomness.seed = 77
    config.resume, config.load_from = True, str(story.resumed)
    config.train_cfg.update({'max_epochs': 3} if 'max_epochs' in config.train_cfg else {'max_iters': 12})
    again = task_of_story.train(config, tmp_path)  # it is at its end already: nothing is trained
    assert again.iter == 12
    for name, value in again.model.objectives.state_dict().items():
        assert torch.equal(value, saved[name]), name
    restored = list(tensors_in(again.optim_wrapper.state_dict()))
    assert len(momenta) == len(restored) > 10
    assert all(torch.equal(one, other) for one, other in zip(momenta, restored, strict=True))


def test_a_plain_checkpoint_initialises_a_distiller(task, tmp_path):
    """``load_from`` with weights of the plain student; connectors, which it lacks, keep their own."""
    plain = task.build(task.plain().model)
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    config = task.distilled(load_from=str(tmp_path / 'plain.pth'))
    runner = task.runner(config, tmp_path / 'run')
    own = {name: value.clone() for name, value in runner.model.objectives.state_dict().items()}
    runner.load_or_resume()
    for key, value in plain.state_dict().items():
        assert torch.equal(runner.model.state_dict()[key], value), key
    assert own
    assert all(torch.equal(value, own[name]) for name, value in runner.model.objectives.state_dict().items())


def test_loading_says_what_a_changed_architecture_lacks(task):
    distiller = task.build(task.distilled().model)
    weights = distiller.state_dict()
    gone = next(iter(weights))
    weights['surplus.weight'] = weights.pop(gone)
    with pytest.raises(RuntimeError, match='Missing key') as error:
        distiller.load_state_dict(weights)
    assert gone in str(error.value)
    assert 'surplus.weight' in str(error.value)


class TestDetector:
    @pytest.fixture(scope='class')
    def tested(self, detector, detector_story, stock_script):
        """Run the stock ``tools/test.py`` with the plain student's config."""
        folder = detector_story.folder / 'tested'
        folder.mkdir()
        detector.plain().dump(folder / 'plain.py')
        stock_script('mmdet', 'test.py').run(
            folder / 'plain.py', detector_story.resumed, '--work-dir', folder, '--out', folder / 'out.pkl', cwd=folder
        )
        return folder

    def test_stock_test_script_finds_the_same_map(self, detector_story, tested):
        own = newest_json(detector_story.folder / 'run', 'coco/bbox_mAP_50')
        stock = newest_json(tested, 'coco/bbox_mAP_50')
        names = [name for name in own if name.startswith('coco/')]
        assert own['coco/bbox_mAP_50'] > 0
        assert {name: own[name] for name in names} == {name: stock[name] for name in names}

    def test_its_boxes_are_those_of_the_distiller(self, detector, detector_story, tested, tmp_path):
        config = detector.distilled(load_from=str(detector_story.resumed))
        runner = detector.runner(config, tmp_path)
        runner.load_or_resume()
        runner.model.eval()
        boxes = []
        for batch in runner.val_dataloader:
            boxes += [sample.pred_instances for sample in runner.model.test_step(batch)]
        stock = [sample['pred_instances'] for sample in pickle.loads((tested / 'out.pkl').read_bytes())]
        assert len(stock) == len(boxes) == 8
        assert sum(len(one) for one in boxes) > 0
        for own, other in zip(boxes, stock, strict=True):
            for key in ('bboxes', 'scores', 'labels'):
                assert torch.equal(own[key], other[key])

    def test_init_detector_takes_it(self, detector, detector_story, toy_data):
        from mmdet.apis import inference_detector, init_detector

        model = init_detector(detector.plain(), str(detector_story.resumed), device='cpu')
        saved = load_checkpoint(detector_story.resumed)['state_dict']
        assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
        assert model.dataset_meta['classes'] == ('disc', 'square', 'cross')
        assert len(inference_detector(model, str(toy_data / 'images' / '0.png')).pred_instances) > 0


@pytest.mark.parametrize('story', ['query_detector', 'mask_detector', 'mask_segmentor'], indirect=True)
def test_what_is_exported_says_what_the_distilled_student_says(story, toy_data, tmp_path):
    if story.task.package == 'mmdet':
        from mmdet.apis import inference_detector as infer
        from mmdet.apis import init_detector as init
    else:
        from mmseg.apis import inference_model as infer
        from mmseg.apis import init_model as init
    image = toy_data / 'images' / '0.png'
    export_student(story.folder / 'run', tmp_path / 'student.pth')
    assert 'kddense' not in (tmp_path / 'student.py').read_text()
    model = init(str(tmp_path / 'student.py'), str(tmp_path / 'student.pth'), device='cpu')
    model.cfg.setdefault('test_pipeline', model.cfg.test_dataloader.dataset.pipeline)
    found = infer(model, str(image))
    own = TrainedRun(story.task, story.folder / 'run', story.runner, story.resumed).predict(image)
    if story.task.package == 'mmseg':
        assert torch.equal(found.seg_logits.data, own.seg_logits.data)
        return
    found = found.pred_instances
    assert len(found) == len(own) > 0
    keys = ['bboxes', 'scores', 'labels', *(['masks'] if story.task.name == 'mask_detector' else [])]
    assert all(torch.equal(*map(torch.as_tensor, (found[key], own[key]))) for key in keys)


@pytest.mark.parametrize(
    'story, layer', [('detector', 'roi_head.bbox_head.fc_cls'), ('structured', 'decode_head.conv_seg')]
)
def test_the_average_is_stored_as_the_plain_students(story, layer, request):
    """mmengine stores the average as ``state_dict`` and the trained weights as ``ema_state_dict``."""
    from mmengine.model import ExponentialMovingAverage

    task, story = request.getfixturevalue(story), request.getfixturevalue(f'{story}_story')
    saved = load_checkpoint(story.resumed)
    average = ExponentialMovingAverage(task.build(task.plain().model))
    assert list(saved['ema_state_dict']) == list(average.state_dict())
    average.load_state_dict(saved['ema_state_dict'], strict=True)
    trained = story.runner.model.state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in average.module.state_dict().items())
    assert not torch.equal(saved['state_dict'][f'{layer}.weight'], trained[f'{layer}.weight'])


@pytest.mark.parametrize('story', ['segmentor', 'structured'], indirect=True)
def test_init_model_takes_a_segmentors(story, task_of_story, saved):
    from mmseg.apis import init_model

    model = init_model(task_of_story.plain(), str(story.resumed), device='cpu')
    assert all(torch.equal(value, saved['state_dict'][key]) for key, value in model.state_dict().items())
    assert model.dataset_meta['classes'] == ('ground', 'disc', 'square', 'cross')


@pytest.mark.parametrize('story', ['segmentor', 'structured'], indirect=True)
def test_a_plain_segmentor_gets_the_same_miou(story, task_of_story, tmp_path):
    own = newest_json(story.folder / 'run', 'mIoU')
    runner = task_of_story.runner(task_of_story.plain(load_from=str(story.resumed)), tmp_path)
    stock = runner.test()
    assert own['mIoU'] > 0
    assert {name: own[name] for name in stock} == stock


def test_a_plain_depth_estimator_gets_the_same_errors(depth, depth_story, tmp_path):
    own = newest_json(depth_story.folder / 'run', 'abs_rel')
    runner = depth.runner(depth.plain(load_from=str(depth_story.resumed)), tmp_path)
    stock = runner.test()
    assert own['abs_rel'] > 0
    assert {name: own[name] for name in stock} == stock


def test_what_was_seen_of_the_teachers_errors_is_kept(depth_story):
    own = load_checkpoint(depth_story.resumed)['state_dict']._metadata['']['kddense']
    least, greatest = (own[f'objectives.hint.error_range.{end}'] for end in ('least', 'greatest'))
    assert 0 < least < greatest


def test_mmsegs_inference_takes_a_depth_estimators(depth, depth_story, toy_data, tmp_path):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    config, image = depth.plain(), str(toy_data / 'images' / '0.png')
    model = init_model(config, str(depth_story.resumed), device='cpu')
    found = inference_model(model, image).pred_depth_map.data

    assert found.shape == (1, 64, 64)
    assert 0.1 <= found.min() < found.max() <= 10
    config.dump(tmp_path / 'plain.py')
    inferencer = MMSegInferencer(str(tmp_path / 'plain.py'), str(depth_story.resumed), device='cpu')
    drawn = inferencer(image, out_dir=str(tmp_path / 'out'))
    assert (tmp_path / 'out' / 'vis' / '0.png').exists()
    torch.testing.assert_close(torch.as_tensor(drawn['predictions']), found[0])
