"""Structured distillation on CamVid with every tenth label: in each batch as many images without a label."""

_base_ = './skd_lite2_r18-w16_fpn_camvid_tenth.py'

images = dict(type='BaseSegDataset', data_root='data/camvid/', data_prefix=dict(img_path='images/train'))
default_hooks = dict(unlabelled=dict(type='kddense.UnlabelledImagesHook', ratio=1, dataset=images))
