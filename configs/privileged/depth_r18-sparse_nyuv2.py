"""A teacher of depth on NYUv2 that sees the depth of 200 pixels beside the image: a full ResNet-18 with four channels."""

_base_ = '../skd/depth_r18_nyuv2.py'

sparse = dict(type='kddense.AddSparseDepth', points=200, key='img')
distort = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
start = [_base_.load, _base_.load_depth, _base_.resize]
train_dataloader = dict(dataset=dict(pipeline=[*start, *distort, sparse, _base_.pack]))
seen = [_base_.load, _base_.resize, _base_.load_depth, dict(sparse, fixed=True), _base_.pack]
val_dataloader = dict(dataset=dict(pipeline=seen))
test_dataloader = val_dataloader

# Four channels stay in the order of the file: blue, green, red, and metres.
model = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675, 0.0], std=[57.375, 57.12, 58.395, 5.0], bgr_to_rgb=False),
    backbone=dict(in_channels=4),
)
