"""How a student trains beside its objectives: several optimisers on one backward pass, hooks, and what a run leaves."""

from .average_hook import AverageTeacherHook
from .channels_last import ChannelsLastHook
from .checkpoint_hook import WholeCheckpointHook
from .fsdp import FSDPStrategy
from .interruption import Interruption
from .joint_optim import JointOptimWrapper
from .joint_optim_constructor import JointOptimWrapperConstructor
from .peer_hook import PeerHook
from .quantise import QuantiseHook
from .random_state_hook import RandomStateHook
from .rest import RestHook
from .route import RouteHook
from .stages import StagesHook
from .unlabelled import UnlabelledImagesHook
from .zero import DeepSpeedStrategy

__all__ = [
    'AverageTeacherHook',
    'ChannelsLastHook',
    'DeepSpeedStrategy',
    'FSDPStrategy',
    'Interruption',
    'JointOptimWrapper',
    'JointOptimWrapperConstructor',
    'PeerHook',
    'QuantiseHook',
    'RandomStateHook',
    'RestHook',
    'RouteHook',
    'StagesHook',
    'UnlabelledImagesHook',
    'WholeCheckpointHook',
]
