"""Run by torchrun in two processes: what ``tests/contracts/test_sharded.py`` compares with one process.

Usage: ``sharded.py FOLDER``, which holds ``jobs.pkl``, models with their batches, and ``training_<name>.py``, configs of
trainings. Writes losses and weights to ``steps.pth``, the checkpoints to ``<name>_whole/`` and ``<name>_resumed/``.
"""

import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import register_all_modules as register_mmdet
from mmengine._strategy.deepspeed import MMDeepSpeedEngineWrapper
from mmengine.config import Config, ConfigDict
from mmengine.dist import all_reduce_dict, get_rank
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, RUNNERS, STRATEGIES, DefaultScope
from mmseg.utils import register_all_modules as register_mmseg
from two_processes import STEP

import kddense  # noqa: F401


def steps(job: dict, folder: Path) -> dict:
    """Take some steps, each with this process's half of a batch, and save; return the losses, and what it holds."""
    with DefaultScope.overwrite_default_scope(job['package']):
        distiller = MODELS.build(ConfigDict(job['model']))
    distiller.student.load_state_dict(job['student'])
    if get_rank() == 0:  # the others get them from this one
        distiller.objectives.load_state_dict(job['objectives'])
    trained = trained_by(job, distiller, folder)
    trained.model.train()
    losses = []
    for batch in job['batches']:
        half = {key: values[get_rank() :: 2] for key, values in batch.items()}
        found = trained.model.train_step(half, trained.optim_wrapper)
        means = {key: value.detach().clone() for key, value in found.items() if 'loss' in key}
        all_reduce_dict(means, 'mean')
        losses.append(means)
    held = sum(parameter.numel() for parameter in map(local, optimised(trained, distiller)))
    taught = [local(one).numel() for teacher in distiller.teachers.values() for one in teacher.parameters()]
    trained.save_checkpoint(str(folder / 'job.pth'))
    return dict(losses=losses, held=held, taught=sum(taught))


def trained_by(job: dict, distiller: torch.nn.Module, folder: Path) -> Any:
    """Return what trains a distiller, whose weights are there already: a strategy, or what stands for DDP without one."""
    if job['strategy'] is None:
        return WithoutStrategy(distiller, job['optim_wrapper'])
    strategy = STRATEGIES.build(dict(job['strategy'], work_dir=str(folder), env_kwargs=dict(launcher='pytorch')))
    options = dict(init_weights_for_test_or_val=False)
    strategy.prepare(distiller, optim_wrapper=job['optim_wrapper'], dispatch_kwargs=options)
    return strategy


class WithoutStrategy:
    """As much of a strategy as is needed here, for models that DDP wraps."""

    def __init__(self, distiller: torch.nn.Module, optim_wrapper: dict) -> None:
        self.model = MMDistributedDataParallel(distiller)
        self.optim_wrapper = build_optim_wrapper(self.model, optim_wrapper)

    def save_checkpoint(self, file: str) -> None:
        """Write the weights as mmengine's usual runner does."""
        if get_rank() == 0:
            torch.save(dict(state_dict=self.model.module.state_dict(), optimizer=self.optim_wrapper.state_dict()), file)


def optimised(trained: Any, distiller: torch.nn.Module) -> list[torch.Tensor]:
    """Return what the optimisers of this process change: DeepSpeed's have copies of its share."""
    if isinstance(trained.model, MMDeepSpeedEngineWrapper):
        return [one for group in trained.optim_wrapper.param_groups for one in group['params']]
    return list(distiller.parameters())


def local(parameter: torch.Tensor) -> torch.Tensor:
    """Return what of a parameter this process holds."""
    return parameter.to_local() if hasattr(parameter, 'to_local') else parameter


def train(file: Path, name: str, **options: object) -> None:
    """Train a config through mmengine's flexible runner, into a folder beside it."""
    config = Config.fromfile(file)
    config.merge_from_dict(options)
    config.work_dir, config.experiment_name, config.visualizer.name = str(file.with_name(name)), name, name
    RUNNERS.build(config).train()


def build_no_kernel() -> None:
    """Keep DeepSpeed from compiling a kernel for memory that processes share, which takes minutes."""
    if find_spec('deepspeed'):
        import deepspeed

        deepspeed.ops.__compatible_ops__['deepspeed_shm_comm'] = False


def main() -> None:
    """Do all of it."""
    folder = Path(sys.argv[1])
    torch.distributed.init_process_group('gloo')  # mmengine's own start-up asks for a GPU
    torch.set_num_threads(1)
    build_no_kernel()
    register_mmdet(init_default_scope=False)
    register_mmseg(init_default_scope=False)
    results = {}
    for name, job in pickle.loads((folder / 'jobs.pkl').read_bytes()).items():
        MessageHub.get_instance(name).update_info_dict(STEP)
        (folder / name).mkdir(exist_ok=True)
        results[name] = steps(job, folder / name)
    if get_rank() == 0:
        torch.save(results, folder / 'steps.pth')
    for file in sorted(folder.glob('training_*.py')):
        name = file.stem.removeprefix('training_')
        train(file, f'{name}_whole')
        train(file, f'{name}_resumed', resume=True, load_from=str(folder / f'{name}_whole' / 'iter_2.pth'))


if __name__ == '__main__':
    main()
