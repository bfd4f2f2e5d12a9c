"""Depth up to scale and shift on NYUv2 with every tenth label: pseudo-depth of as many images without one."""

_base_ = './depth-any_lite2_r18-w8_nyuv2_tenth.py'

images = dict(type='NYUDataset', data_root='data/nyuv2/', data_prefix=dict(img_path='images/train'))
default_hooks = dict(unlabelled=dict(type='kddense.UnlabelledImagesHook', ratio=1, dataset=images))
