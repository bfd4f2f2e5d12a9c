"""Channel-wise distillation of what the classifier reads, on Cityscapes."""

_base_ = './cwd_r101_r18_pspnet_512x512_cityscapes.py'

model = dict(objectives=dict(cwd=dict(compare='feature')))
