"""Two machines with half the batch each train as one process does: with whole students, sharded ones, and DeepSpeed."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
from importlib.util import find_spec

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper

from kddense.compat import load_checkpoint
from kddense.distiller.state import own_state, own_state_in
from kddense.export import export_student

from ..helpers.processes import PATIENCE, SCRIPTS
from ..helpers.scripts.two_processes import STEP
from .test_two_processes import assert_close, objectives_with_one_waiting, without_chance

pytest.importorskip('torch.distributed.fsdp', reason='FSDP')
pytestmark = pytest.mark.skipif(not hasattr(torch.distributed.fsdp, 'fully_shard'), reason='sharding needs PyTorch 2.6')

SHARDED = dict(type='kddense.FSDPStrategy')
WHOLE_STEP = dict(SHARDED, units='none')
WITH_TEACHER = dict(SHARDED, shard_teacher=True)
JOBS = {  # FCOS has weights without a dimension
    'detector': ('detector', SHARDED),
    'one_stage': ('one_stage', WITH_TEACHER),
    'structured': ('structured', WHOLE_STEP),
    'not_sharded': ('segmentor', None),
}
TRAININGS = {'sharded': (SHARDED, None)}  # with which objectives; None: with those of the task
if find_spec('deepspeed'):  # `make test-zero`
    ZERO = {stage: dict(type='kddense.DeepSpeedStrategy', zero_optimization=dict(stage=stage)) for stage in (1, 2)}
    JOBS |= {'zero_1': ('detector', ZERO[1]), 'zero_2': ('one_stage', ZERO[2])}
    # Measured in the middle of steps; none trains an adversary.
    HINT = dict(type='kddense.FeatureObjective', tap='backbone', weight=dict(value='10%', every=2))
    TRAININGS['zero'] = (ZERO[2], dict(hint=HINT))
STEPS = 2


def optim_wrapper_of(config):
    """Return plain gradient descent in place of the config's optimisers, with momentum, which a checkpoint keeps."""
    sgd = dict(type='SGD', lr=1e-3, momentum=0.9)
    several = {name: dict(optimizer=sgd) for name in config.optim_wrapper.get('objectives', {})}
    constructor = dict(constructor='kddense.JointOptimWrapperConstructor', objectives=several) if several else {}
    return dict(type='OptimWrapper', optimizer=sgd, clip_grad=dict(max_norm=5.0), **constructor)


@pytest.fixture(scope='module')
def jobs(detector, one_stage, segmentor, structured):
    """What the two machines are to do, by name."""
    tasks = {task.name: task for task in (detector, one_stage, segmentor, structured)}
    jobs = {}
    for name, (kind, strategy) in JOBS.items():
        task = tasks[kind]
        objectives = objectives_with_one_waiting(task)
        if name.startswith('zero'):  # one optimiser
            objectives = {key: one for key, one in objectives.items() if one['type'] != 'kddense.HolisticObjective'}
        config = task.distilled(objectives, **without_chance(task))
        torch.manual_seed(0)
        distiller = task.build(config.model)
        jobs[name] = dict(
            package=task.package,
            model=config.model.to_dict(),
            student=distiller.student.state_dict(),
            objectives=distiller.objectives.state_dict(),
            batches=[{key: list(values) for key, values in task.batch([0, 1, 2, 3]).items()}] * STEPS,
            strategy=strategy,
            optim_wrapper=optim_wrapper_of(config),
        )
    return jobs


@pytest.fixture(scope='module')
def folder(jobs, segmentor, python, tmp_path_factory):
    """Where the two machines left what they found."""
    folder = tmp_path_factory.mktemp('sharded')
    (folder / 'jobs.pkl').write_bytes(pickle.dumps(jobs))
    for name, (strategy, objectives) in TRAININGS.items():
        training = segmentor.distilled(
            objectives, train_cfg__max_iters=4, train_cfg__val_interval=4, default_hooks__checkpoint__interval=2
        )
        training.launcher, training.log_level = 'pytorch', 'ERROR'
        training.runner_type, training.strategy = 'FlexibleRunner', strategy
        training.custom_hooks = [dict(type='kddense.RandomStateHook')]
        training.dump(folder / f'training_{name}.py')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'DS_ACCELERATOR': 'cpu'}
    where = ['--nnodes=2', '--nproc-per-node=1', '--master-addr=127.0.0.1', f'--master-port={port}']
    nodes = [
        subprocess.Popen(
            [python, '-m', 'torch.distributed.run', *where, f'--node-rank={rank}', SCRIPTS / 'sharded.py', folder],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [node.communicate(timeout=PATIENCE)[0] for node in nodes]
    assert not any(node.returncode for node in nodes), '\n'.join(outputs)
    return folder


def in_one_process(task, name, job):
    """Return the distiller of a job after its steps with whole batches, their losses, and the optimisers."""
    # Of a name of its own: the newest hub is that of whichever test trained before.
    MessageHub.get_instance(f'in one process: {name}').update_info_dict(STEP)
    distiller = task.build(ConfigDict(job['model'])).train()
    distiller.student.load_state_dict(job['student'])
    distiller.objectives.load_state_dict(job['objectives'])
    wrapper = build_optim_wrapper(distiller, dict(job['optim_wrapper']))
    losses = [distiller.train_step(batch, wrapper) for batch in job['batches']]
    return distiller, losses, wrapper


@pytest.fixture(scope='module', params=list(JOBS))
def told(request, jobs, folder):
    """A job's name, what two machines found, their checkpoint, and what one process finds."""
    task = request.getfixturevalue(JOBS[request.param][0])
    found = load_checkpoint(folder / 'steps.pth')[request.param]
    return (
        request.param,
        found,
        load_checkpoint(folder / request.param / 'job.pth'),
        in_one_process(task, request.param, jobs[request.param]),
    )


def test_steps_are_those_of_one_process(told):
    _, found, checkpoint, (distiller, losses, _) = told
    for step, expected in zip(found['losses'], losses, strict=True):
        named = {key: value.detach() for key, value in expected.items() if 'loss' in key}
        assert_close(step, named, atol=1e-5)
    plain = distiller.student.state_dict()
    assert_close(checkpoint['state_dict'], plain, atol=1e-6)
    own = own_state(distiller)
    assert own
    assert_close(own_state_in(checkpoint['state_dict']), own, atol=1e-6)


def test_each_process_holds_a_part(told):
    name, found, _, (distiller, *_) = told
    whole = sum(one.numel() for one in distiller.parameters())
    teacher = sum(one.numel() for own in distiller.teachers.values() for one in own.parameters())
    if name == 'not_sharded':
        assert found['held'] == whole
    else:
        assert found['held'] < 0.6 * whole
    assert (found['taught'] < 0.75 * teacher) if name == 'one_stage' else found['taught'] == teacher


def test_optimisers_are_saved_as_those_of_one_process(told):
    _, _, checkpoint, (_, _, wrapper) = told
    expected = wrapper.state_dict()
    several = 'param_groups' not in expected
    for name in expected if several else ['']:
        ours, theirs = (one[name] if several else one for one in (checkpoint['optimizer'], expected))
        momenta, others = (
            {str(index): state['momentum_buffer'] for index, state in one['state'].items()} for one in (ours, theirs)
        )
        assert {key: value.shape for key, value in momenta.items()} == {key: one.shape for key, one in others.items()}
        assert_close(momenta, others, atol=1e-5)


@pytest.mark.parametrize('name', TRAININGS)
def test_a_run_goes_on_where_it_was(name, folder, segmentor, tmp_path):
    whole, resumed = (load_checkpoint(folder / f'{name}_{which}' / 'iter_4.pth') for which in ('whole', 'resumed'))
    for key, value in whole['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][key]), key
    # And without sharding, in one process.
    config = segmentor.distilled(TRAININGS[name][1], train_cfg__max_iters=4, train_cfg__val_interval=4)
    config.resume, config.load_from = True, str(folder / f'{name}_whole' / 'iter_2.pth')
    runner = segmentor.train(config, tmp_path)
    assert runner.iter == 4


@pytest.mark.parametrize('name', TRAININGS)
def test_what_is_exported_is_the_plain_student(name, folder, segmentor, tmp_path):
    export_student(folder / f'{name}_whole', tmp_path / 'student.pth')
    weights = load_checkpoint(tmp_path / 'student.pth')['state_dict']
    trained = load_checkpoint(folder / f'{name}_whole' / 'iter_4.pth')['state_dict']
    assert weights.keys() == segmentor.build(segmentor.plain().model).state_dict().keys()
    assert all(torch.equal(value, trained[key]) for key, value in weights.items())
    text = (tmp_path / 'student.py').read_text()
    assert 'strategy' not in text
    assert 'runner_type' not in text
