"""Run by torchrun in two processes: what ``test_two_processes.py`` compares with one process.

Usage: ``two_processes.py FOLDER``, which holds ``jobs.pkl``, models with their batches, and ``training.py``, the
config of a training. Writes the gradients to ``gradients.pth``, the checkpoints to ``whole/`` and ``resumed/``.
"""

import pickle
import sys
from pathlib import Path

import torch
from mmdet.utils import register_all_modules as register_mmdet
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from mmseg.utils import register_all_modules as register_mmseg

import kddense  # noqa: F401

STEP = dict(seed=5, iter=2)  # what the objectives are told of the run


def gradients(job: dict) -> dict:
    """Return the gradients of this process's half of the batch, averaged over the processes by DDP."""
    with DefaultScope.overwrite_default_scope(job['package']):
        distiller = MODELS.build(ConfigDict(job['model']))
    distiller.student.load_state_dict(job['student'])
    model = MMDistributedDataParallel(distiller).train()
    half = {key: values[get_rank() :: 2] for key, values in job['batch'].items()}
    for _ in range(2):  # only the second time does DDP complain of parameters without a gradient
        distiller.objectives.load_state_dict(job['objectives'])  # spectral norms move with every pass
        model.zero_grad()
        total, _ = distiller.parse_losses(model(**distiller.data_preprocessor(half, True), mode='loss'))
        total.backward()
    return {name: parameter.grad for name, parameter in distiller.named_parameters()}


def train(folder: Path, name: str, **options: object) -> None:
    """Train through mmengine's runner."""
    config = Config.fromfile(folder / 'training.py')
    config.merge_from_dict(options)
    config.work_dir, config.experiment_name = str(folder / name), name
    Runner.from_cfg(config).train()


def main() -> None:
    """Do all of it."""
    folder = Path(sys.argv[1])
    torch.distributed.init_process_group('gloo')  # mmengine's own start-up asks for a GPU
    torch.set_num_threads(1)
    MessageHub.get_current_instance().update_info_dict(STEP)
    register_mmdet(init_default_scope=False)
    register_mmseg(init_default_scope=False)
    jobs = pickle.loads((folder / 'jobs.pkl').read_bytes())
    results = {name: gradients(job) for name, job in jobs.items()}
    if get_rank() == 0:
        torch.save(results, folder / 'gradients.pth')
    train(folder, 'whole')
    train(folder, 'resumed', resume=True, load_from=str(folder / 'whole' / 'epoch_1.pth'))


if __name__ == '__main__':
    main()
