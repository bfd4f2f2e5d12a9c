"""Two processes with half the batch each train as one process does, without ``find_unused_parameters``."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from kddense.compat import load_checkpoint
from kddense.objectives._shared_numbers import SharedNumbers

from ..helpers.processes import PATIENCE, SCRIPTS
from ..helpers.scripts.two_processes import STEP

WAITING = ('one_stage', 'query_detector', 'mask_detector', 'mask_segmentor')  # whose heads average over processes


def without_chance(task):
    """Return options under which a batch's loss is the mean of its images' losses, with nothing drawn at random.

    No batch statistics, no dropout; in a two-stage detector as many anchors and RoIs in every image: none is ignored, all
    of a fixed number of proposals are taken. FCOS and DETR count their positives over all processes.

    Masks are not so: Mask R-CNN averages over the positives of a process, and Mask2Former draws points.
    """
    if task.name.startswith('mask_'):
        return {}
    if task.name == 'query_detector':
        drops = ('self_attn_cfg__dropout', 'ffn_cfg__ffn_drop')
        return dict(
            model__backbone__norm_eval=True,
            model__decoder__layer_cfg__cross_attn_cfg__dropout=0.0,
            **{f'model__{part}__layer_cfg__{key}': 0.0 for part in ('encoder', 'decoder') for key in drops},
        )
    if task.package == 'mmseg':
        norm = dict(type='GN', num_groups=2, requires_grad=True)
        heads = ('decode_head__decoder',) if task.name == 'depth' else ('decode_head', 'auxiliary_head')
        return dict(
            model__backbone__norm_cfg=norm,
            **{f'model__{head}__norm_cfg': norm for head in heads},
            **{f'model__{head}__dropout_ratio': 0.0 for head in heads},
        )
    if task.name == 'one_stage':
        return dict(model__backbone__norm_eval=True)
    rule = dict(pos_iou_thr=0.4, neg_iou_thr=0.4, min_pos_iou=0.4)
    return dict(
        model__backbone__norm_eval=True,
        model__train_cfg__rpn__assigner=rule,
        model__train_cfg__rpn__sampler=dict(num=100_000, pos_fraction=1.0),
        model__train_cfg__rpn_proposal=dict(nms_pre=40, max_per_img=40, nms=dict(iou_threshold=1.0)),
        model__train_cfg__rcnn__assigner=rule,
        model__train_cfg__rcnn__sampler=dict(num=1000, pos_fraction=1.0, add_gt_as_proposals=False),
    )


def objectives_with_one_waiting(task):
    """All objectives, and one more that has not begun: its connector gets no gradient from a loss."""
    waiting = dict(type='kddense.FeatureObjective', tap='backbone', levels=[2], weight=dict(value=1.0, start=1000))
    return {**task.objectives, 'waiting': waiting}


def batch_of(task, size=4):
    batch = task.batch([0, 1, 2, 3][:size])
    return {key: list(values) for key, values in batch.items()}


def without_labels(task):
    """Return a job of features alone in which the second process gets no image with labels."""
    hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1])
    config = task.distilled(dict(hint=hint))
    distiller, batch = task.build(config.model), batch_of(task)
    for sample in batch['data_samples'][1::2]:
        sample.set_metainfo(dict(unlabelled=True))
        if task.package == 'mmdet':
            sample.gt_instances = InstanceData()
        else:
            del sample.gt_sem_seg
    return dict(
        package=task.package,
        model=config.model.to_dict(),
        student=distiller.student.state_dict(),
        objectives=distiller.objectives.state_dict(),
        batch=batch,
    )


def mean_gradients(distiller, batch, parts=1):
    """Return the gradients of a batch, or their mean over parts of it."""
    distiller.train().zero_grad()
    for part in range(parts):
        share = {key: values[part::parts] for key, values in batch.items()}
        losses = distiller(**distiller.data_preprocessor(share, True), mode='loss')
        total, _ = distiller.parse_losses(losses)
        (total / parts).backward()
    return {name: parameter.grad for name, parameter in distiller.named_parameters()}


def assert_close(found, expected, atol=1e-9):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=1e-5 * scale + atol, msg=lambda m, n=name: f'{n}: {m}'
        )


@pytest.fixture(autouse=True)
def a_step_of_a_run():
    """Gradient penalties draw their points by the run's seed and iteration, in the two processes as in this one."""
    MessageHub.get_current_instance().update_info_dict(STEP)


@pytest.fixture(scope='module')
def tasks(detector, one_stage, segmentor, structured, depth, query_detector, mask_detector, mask_segmentor):
    families = detector, one_stage, segmentor, structured, depth, query_detector, mask_detector, mask_segmentor
    return {task.name: task for task in families}


@pytest.fixture(scope='module')
def distillers(tasks):
    torch.manual_seed(0)
    configs = {
        name: task.distilled(objectives_with_one_waiting(task), **without_chance(task)) for name, task in tasks.items()
    }
    return {name: (config, tasks[name].build(config.model)) for name, config in configs.items()}


@pytest.fixture(scope='module')
def folder(tasks, distillers, python, tmp_path_factory):
    """Where the two processes left what they found."""
    folder = tmp_path_factory.mktemp('two_processes')
    jobs = {
        name: dict(
            package=tasks[name].package,
            model=config.model.to_dict(),
            student=distiller.student.state_dict(),
            objectives=distiller.objectives.state_dict(),
            batch=batch_of(tasks[name]),
        )
        for name, (config, distiller) in distillers.items()
    }
    jobs |= {f'{name}, one without labels': without_labels(tasks[name]) for name in WAITING}
    (folder / 'jobs.pkl').write_bytes(pickle.dumps(jobs))
    training = tasks['detector'].distilled(train_cfg__max_epochs=2, train_dataloader__batch_size=1)
    training.launcher, training.log_level = 'pytorch', 'ERROR'

    training.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)  # by default, GPUs
    training.randomness = dict(seed=3, diff_rank_seed=True)
    training.custom_hooks = [dict(type='kddense.RandomStateHook')]
    training.dump(folder / 'training.py')

    command = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', str(SCRIPTS / 'two_processes.py')]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [python, *command, str(folder)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize('name', ['detector', 'one_stage', 'segmentor', 'structured', 'depth', 'query_detector'])
def test_gradients_are_those_of_one_process(name, tasks, distillers, folder):
    found = load_checkpoint(folder / 'gradients.pth')[name]
    _, distiller = distillers[name]
    expected = mean_gradients(distiller, batch_of(tasks[name]))
    trained = {key: value for key, value in expected.items() if not key.startswith('objectives.waiting.')}
    assert all(value is not None for value in expected.values())
    assert all(
        value.any() for key, value in trained.items() if 'connectors' in key or 'discriminator.score.weight' in key
    )
    assert any('discriminator' in key for key in trained) == ('holistic' in tasks[name].objectives)
    assert not any(value.any() for key, value in expected.items() if key not in trained)
    assert_close(found, expected)


@pytest.mark.parametrize('name', ['mask_detector', 'mask_segmentor'])
def test_every_parameter_has_a_part_in_the_loss_of_masks(name, distillers, folder):
    """Without it DDP would stop at the second step."""
    found = load_checkpoint(folder / 'gradients.pth')[name]
    _, distiller = distillers[name]
    assert found.keys() == {key for key, value in distiller.named_parameters() if value.requires_grad}
    assert all(value.isfinite().all() for value in found.values())
    assert all(found[key].any() for key in found if key.startswith('objectives.hint.'))


@pytest.mark.parametrize('name', WAITING)
def test_a_process_without_any_label_is_waited_for_by_none(name, folder):
    """Heads that average over processes would wait for it, or meet another of its messages."""
    found = load_checkpoint(folder / 'gradients.pth')[f'{name}, one without labels']
    assert all(value.isfinite().all() for value in found.values() if value is not None)
    assert any(value.any() for key, value in found.items() if '_head' in key and value is not None)
    assert any(value.any() for key, value in found.items() if key.startswith('objectives.hint.'))


def test_each_process_resumes_its_own_random_numbers(folder):
    whole = load_checkpoint(folder / 'whole' / 'epoch_2.pth')
    resumed = load_checkpoint(folder / 'resumed' / 'epoch_2.pth')
    first, second = whole['random_state']['states']
    assert not torch.equal(first['torch'], second['torch'])
    for one, other in zip(whole['random_state']['states'], resumed['random_state']['states'], strict=True):
        assert torch.equal(one['torch'], other['torch'])
        assert torch.equal(one['numpy'][1], other['numpy'][1])
        assert one['python'] == other['python']
    for key, value in whole['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][key]), key


@pytest.mark.parametrize('name', ['detector', 'segmentor', 'structured'])
def test_accumulated_gradients_are_those_of_one_batch(name, tasks, distillers, monkeypatch):
    from mmengine.optim import build_optim_wrapper

    # A gradient penalty is taken halfway: the parts of a batch are steps of their own, with points of their own.
    monkeypatch.setattr(SharedNumbers, 'draw', lambda self, count, like: like.new_full((count,), 0.5))

    batch = batch_of(tasks[name])
    _, distiller = distillers[name]
    whole, accumulated = copy.deepcopy(distiller).train(), copy.deepcopy(distiller).train()
    for one in (whole, accumulated):
        one.objectives.eval()  # every pass in training mode moves a discriminator's spectral norms a little
    plain = dict(optimizer=dict(type='SGD', lr=1.0))
    whole.train_step(batch, build_optim_wrapper(whole, plain))
    wrapper = build_optim_wrapper(accumulated, dict(**plain, accumulative_counts=2))
    wrapper.initialize_count_status(accumulated, 0, 2)
    for part in range(2):
        accumulated.train_step({key: values[part::2] for key, values in batch.items()}, wrapper)
    before = dict(distiller.named_parameters())
    moved = {key: value.detach() - before[key].detach() for key, value in whole.named_parameters()}
    assert_close(
        {key: value.detach() - before[key].detach() for key, value in accumulated.named_parameters()}, moved, atol=1e-7
    )
