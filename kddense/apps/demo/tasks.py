"""The demo's three tasks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a demo trains: names of configs in ``configs/demo``."""

    teacher: str
    plain: str
    distilled: str


TASKS = {
    'detection': Task(
        'faster-rcnn_lite0_street-scenes.py',
        'faster-rcnn_r18-w16_street-scenes.py',
        'pkd_lite0_r18-w16_street-scenes.py',
    ),
    'segmentation': Task(
        'fpn_lite0_street-scenes.py',
        'fpn_r18-w8_street-scenes.py',
        'skd_lite0_r18-w8_fpn_street-scenes.py',
    ),
    'depth': Task(
        'depth_lite0_street-scenes.py',
        'depth_r18-w8_street-scenes.py',
        'ail_lite0_r18-w8_depth_street-scenes.py',
    ),
}
