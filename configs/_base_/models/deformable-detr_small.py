"""Deformable DETR for small images: 64 channels, two layers of encoder and of decoder, 60 queries, narrow ResNet-18."""

attention = dict(embed_dims=64, num_heads=4, batch_first=True)
deformable = dict(**attention, num_levels=3)
costs = [
    dict(type='FocalLossCost', weight=2.0),
    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]
focal = dict(type='FocalLoss', use_sigmoid=True, loss_weight=2.0)
imagenet = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
model = dict(
    type='DeformableDETR',
    num_queries=60,
    num_feature_levels=3,
    with_box_refine=True,
    data_preprocessor=dict(type='DetDataPreprocessor', **imagenet, pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=16, out_indices=(1, 2, 3), norm_eval=False),
    neck=dict(
        type='ChannelMapper', in_channels=[32, 64, 128], kernel_size=1, out_channels=64, act_cfg=None, num_outs=3
    ),
    encoder=dict(
        num_layers=2, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=dict(embed_dims=64, feedforward_channels=128))
    ),
    decoder=dict(
        num_layers=2,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=attention, cross_attn_cfg=deformable, ffn_cfg=dict(embed_dims=64, feedforward_channels=128)
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=32, normalize=True, offset=-0.5),
    bbox_head=dict(type='DeformableDETRHead', num_classes=3, embed_dims=64, loss_cls=focal),
    train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=costs)),
    test_cfg=dict(max_per_img=60),
)
