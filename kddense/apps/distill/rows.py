"""Rows of recorded tables, by the student and the data that several recipes share."""

from __future__ import annotations

from .choice import Measured

FCOS, CAMVID, NYU = 'skd/measured_bccd.json', 'measured_camvid.json', 'skd/measured_nyuv2.json'


def camvid(method: str, file: str = '', record: str = CAMVID) -> tuple[Measured, ...]:
    """Return the row of a semantic FPN on CamVid, taught by EfficientNet-Lite2."""
    return (Measured('semantic FPN', f'{method}/{record}', f'{file or method}_lite2_r18-w16_fpn_camvid.py'),)


def faster_rcnn(method: str) -> Measured:
    """Return the row of Faster R-CNN on BCCD, taught by EfficientNet-Lite2."""
    return Measured('Faster R-CNN', f'{method}/measured_bccd.json', f'{method}_lite2_r18-w16_faster-rcnn_fpn_bccd.py')


def bccd(method: str, config: str = '') -> tuple[Measured, ...]:
    """Return the row of FCOS on BCCD, taught by EfficientNet-Lite2."""
    return (Measured('FCOS', f'{method}/measured_bccd.json', config or f'{method}_lite2_r18-w16_fcos_fpn_bccd.py'),)


def _tenth(student: str, data: str, config: str) -> tuple[Measured, ...]:
    """Return the row of a student with every tenth label, and images without one in each batch."""
    return (
        Measured(f'{student}, a tenth of the labels', f'skd/measured_{data}_tenth.json', f'{config}_{data}_tenth.py'),
    )


def camvid_tenth(method: str) -> tuple[Measured, ...]:
    """Return the row of a semantic FPN on CamVid with every tenth label, and images without one."""
    return _tenth('semantic FPN', 'camvid', f'{method}/{method}-unlabelled_lite2_r18-w16_fpn')


def bccd_tenth(method: str, name: str = '') -> tuple[Measured, ...]:
    """Return the row of FCOS on BCCD with every tenth label, and images without one."""
    return _tenth('FCOS', 'bccd', f'{method}/{name or method}-unlabelled_lite2_r18-w16_fcos_fpn')
