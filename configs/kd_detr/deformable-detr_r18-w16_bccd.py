"""The Deformable DETR student on BCCD, without distillation: a ResNet-18 a quarter as wide, trained from scratch."""

_base_ = ['../_base_/datasets/bccd_detection.py', '../_base_/schedules/bccd_8e.py']

small = dict(embed_dims=64, num_heads=4)
deformable = dict(**small, num_levels=3, batch_first=True)
ffn = dict(embed_dims=64, feedforward_channels=128)
imagenet = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
costs = [dict(type='FocalLossCost', weight=2), dict(type='BBoxL1Cost', weight=5, box_format='xywh')]
model = dict(
    type='DeformableDETR',
    num_queries=60,
    num_feature_levels=3,
    with_box_refine=True,
    data_preprocessor=dict(type='DetDataPreprocessor', **imagenet, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=16, out_indices=(1, 2, 3), norm_eval=False),
    neck=dict(type='ChannelMapper', in_channels=[32, 64, 128], kernel_size=1, out_channels=64, act_cfg=None, num_outs=3),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=2,
        return_intermediate=True,
        layer_cfg=dict(self_attn_cfg=dict(**small, batch_first=True), cross_attn_cfg=deformable, ffn_cfg=ffn),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=32, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='DeformableDETRHead',
        num_classes=3,
        embed_dims=64,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(type='HungarianAssigner', match_costs=[*costs, dict(type='IoUCost', iou_mode='giou', weight=2.0)])
    ),
    test_cfg=dict(max_per_img=60),
)

train_dataloader = dict(batch_size=4)
