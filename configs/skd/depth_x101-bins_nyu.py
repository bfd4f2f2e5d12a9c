"""The paper's kind of teacher on NYU: ResNeXt-101 32x8d, 150 bins, virtual normals."""

_base_ = './depth_r50_nyu.py'

model = dict(
    pretrained='torchvision://resnext101_32x8d',
    backbone=dict(type='ResNeXt', depth=101, groups=32, base_width=8),
    decode_head=dict(
        target='bins',
        num_bins=150,
        loss_decode=[
            dict(type='kddense.OrderedCrossEntropyLoss'),
            dict(type='kddense.VirtualNormalLoss', loss_weight=5.0),
        ],
    ),
)
