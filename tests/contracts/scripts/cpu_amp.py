"""For ``custom_imports``: mmengine refuses mixed precision without a GPU, though all that it uses works on a CPU."""

from mmengine.optim.optimizer import amp_optimizer_wrapper

amp_optimizer_wrapper.is_cuda_available = lambda: True
