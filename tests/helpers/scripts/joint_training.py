"""Run by torchrun in two processes: what ``tests/test_optim.py`` compares with one process.

Usage: ``joint_training.py FOLDER``, which holds ``job.pkl``, a model with its batches. Writes the weights to
``weights.pth``.
"""

import pickle
import sys
from pathlib import Path

import torch
import toy_adversary  # noqa: F401
from mmengine.config import ConfigDict
from mmengine.dist import get_rank
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmseg.utils import register_all_modules

import kddense  # noqa: F401


def main() -> None:
    """Train with this process's half of each batch, in the manner of mmengine's loops."""
    folder = Path(sys.argv[1])
    torch.distributed.init_process_group('gloo')  # mmengine's own start-up asks for a GPU
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=False)
    job = pickle.loads((folder / 'job.pkl').read_bytes())
    with DefaultScope.overwrite_default_scope('mmseg'):
        distiller = MODELS.build(ConfigDict(job['model']))
    distiller.student.load_state_dict(job['student'])
    distiller.objectives.load_state_dict(job['objectives'])
    model = MMDistributedDataParallel(distiller).train()
    wrapper = build_optim_wrapper(model, job['optim_wrapper'])
    wrapper.initialize_count_status(model, 0, len(job['batches']))
    for batch in job['batches']:
        model.train_step({key: values[get_rank() :: 2] for key, values in batch.items()}, wrapper)
    if get_rank() == 0:
        torch.save(dict(distiller.named_parameters()), folder / 'weights.pth')


if __name__ == '__main__':
    main()
