"""The demo's three tasks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a demo trains: names of configs in ``configs/demo``, and the library whose script trains them."""

    package: str
    teacher: str
    plain: str
    distilled: str


TASKS = {
    'detection': Task(
        'mmdet',
        'faster-rcnn_r18-w24_street-scenes.py',
        'faster-rcnn_r18-w16_street-scenes.py',
        'chen_r18-w24_r18-w16_street-scenes.py',
    ),
    'segmentation': Task(
        'mmseg',
        'pspnet_r18-w16_street-scenes.py',
        'pspnet_r18-w8_street-scenes.py',
        'skd_r18-w16_r18-w8_pspnet_street-scenes.py',
    ),
    'depth': Task(
        'mmseg',
        'depth_r18-w24_street-scenes.py',
        'depth_r18-w8_street-scenes.py',
        'ail_r18-w24_r18-w8_depth_street-scenes.py',
    ),
}
