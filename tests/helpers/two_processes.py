"""Two processes of one group, forked: nothing is imported anew."""

from __future__ import annotations

import torch
import torch.multiprocessing


def in_two_processes(function, folder):
    """Run ``function(rank)`` in two processes that can talk to each other (gloo); returns what it returned in each.

    Args:
        function: What to run; what it returns is saved and loaded as data.
        folder: An empty folder for files.
    """
    arguments = (function, folder)
    torch.multiprocessing.start_processes(_run, arguments, nprocs=2, start_method='fork')
    return [torch.load(folder / f'{rank}.pth', weights_only=True) for rank in range(2)]


def _run(rank, function, folder):
    torch.set_num_threads(1)
    store = f'file://{folder / "store"}'
    torch.distributed.init_process_group('gloo', rank=rank, world_size=2, init_method=store)
    torch.save(function(rank), folder / f'{rank}.pth')
    torch.distributed.destroy_process_group()
