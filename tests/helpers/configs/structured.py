"""The toy PSPNet with an output stride of 4: a discriminator asks for maps of at least 16x16."""

_base_ = './segmentor.py'

model = dict(backbone=dict(strides=(1, 1, 1, 1)))
