"""Made-up images with ground truth, for measurements that need no data set."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData, PixelData
from torch import nn

from kddense.models import DepthHead


def made_up_batch(student: nn.Module, shape: tuple[int, int, int], device: str) -> dict[str, Any]:
    """Return inputs and data samples for a detector (10 boxes an image), segmentor or depth estimator, always the same."""
    number, height, width = shape
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(number, 3, height, width, generator=generator).to(device)
    make = _detection_sample if hasattr(student, 'bbox_head') or hasattr(student, 'roi_head') else _pixel_sample
    samples = [make(student, height, width, generator, device) for _ in range(number)]
    for index, sample in enumerate(samples):
        sample.set_metainfo({'img_id': index})  # memories know images again
    return {'inputs': inputs, 'data_samples': samples}


def _detection_sample(student: Any, height: int, width: int, generator: torch.Generator, device: str) -> Any:
    from mmdet.structures import DetDataSample

    corners = torch.rand(10, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
    sizes = torch.rand(10, 2, generator=generator) * torch.tensor([width * 0.25, height * 0.25]) + 8
    labels = torch.randint(0, _num_classes(student), (10,), generator=generator)
    meta = {'img_shape': (height, width), 'ori_shape': (height, width), 'pad_shape': (height, width)}
    sample = DetDataSample(metainfo={**meta, 'batch_input_shape': (height, width), 'scale_factor': (1.0, 1.0)})
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([corners, corners + sizes], 1).to(device), labels=labels.to(device)
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4, device=device))
    return sample


def _pixel_sample(student: Any, height: int, width: int, generator: torch.Generator, device: str) -> Any:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo={'img_shape': (height, width), 'ori_shape': (height, width)})
    if isinstance(student.decode_head, DepthHead):
        near, far = student.decode_head.min_depth, student.decode_head.max_depth
        depth = near + (far - near) * torch.rand(1, height, width, generator=generator)
        sample.gt_depth_map = PixelData(data=depth.to(device))
        return sample
    labels = torch.randint(0, student.num_classes, (1, height, width), generator=generator)
    sample.gt_sem_seg = PixelData(data=labels.to(device))
    return sample


def _num_classes(student: Any) -> int:
    head = student.roi_head.bbox_head if hasattr(student, 'roi_head') else student.bbox_head
    first: Any = head[0] if isinstance(head, nn.ModuleList) else head
    return first.num_classes
