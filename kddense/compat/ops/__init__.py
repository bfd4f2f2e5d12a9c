"""What stands in for ``mmcv._ext``: the functions that ``mmcv/ops/*.py`` calls, by the names and signatures it uses.

mmcv allocates most outputs itself and passes them in to be filled. It also asks, at import, for every operator of every
model ever written for it; so each name exists, and one that kddense does not offer says so when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .attention import ms_deform_attn_backward, ms_deform_attn_forward, psamask_backward, psamask_forward
from .carafe import carafe_backward, carafe_forward, carafe_naive_backward, carafe_naive_forward
from .deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .masked_conv import masked_col2im_forward, masked_im2col_forward
from .nms import bbox_overlaps, nms, nms_match, softnms
from .roi_align import roi_align_backward, roi_align_forward
from .roi_pool import roi_pool_backward, roi_pool_forward

__all__ = [
    'bbox_overlaps',
    'carafe_backward',
    'carafe_forward',
    'carafe_naive_backward',
    'carafe_naive_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'masked_col2im_forward',
    'masked_im2col_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'psamask_backward',
    'psamask_forward',
    'roi_align_backward',
    'roi_align_forward',
    'roi_pool_backward',
    'roi_pool_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    """Return what mmengine's environment report prints as mmcv's compiler."""
    return 'none (operators by kddense and torchvision)'


def get_compiling_cuda_version() -> str:
    """Return what mmengine's environment report prints as mmcv's CUDA."""
    return 'none (operators by kddense and torchvision)'


def _missing(name: str) -> Callable[..., NoReturn]:
    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's compiled operator '{name}' has no stand-in in kddense: "
            'install compiled mmcv 2.1 (package mmcv in place of mmcv-lite) to use it'
        )

    operator.__name__ = operator.__qualname__ = name
    return operator


def __getattr__(name: str) -> Callable[..., Any]:
    """Offer every operator by name: mmcv looks each up when it is imported, long before anybody calls it."""
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return globals()[name] if name in __all__ else _missing(name)
