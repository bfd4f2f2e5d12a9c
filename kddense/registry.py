"""Child registries of mmengine's roots: ``type='kddense.Name'`` resolves in any default scope."""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='kddense', locations=['kddense'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='kddense', locations=['kddense'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='kddense', locations=['kddense.evaluation'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='kddense', locations=['kddense.datasets'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='kddense',
    locations=['kddense.training'],
)

TEACHERS = Registry('teacher', scope='kddense', locations=['kddense.teachers'])
VIEWS = Registry('view', scope='kddense', locations=['kddense.views'])
