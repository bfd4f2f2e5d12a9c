"""Chen et al. 2017 on COCO, their Table 2: a teacher that sees images twice as large as its twin, the student.

Anchors of two image sizes do not align, thus no objective for the RPN. Hints go between maps of one size: the student's
P2 to P5 and the teacher's P3 to P6.
"""

_base_ = ['./faster-rcnn_r50-low-res_fpn_1x_coco.py', '../_base_/recipes/chen2017.py']

del _base_.distiller.objectives.rpn
_base_.distiller.objectives.hint.update(levels=[0, 1, 2, 3], teacher_levels=[1, 2, 3, 4])
model = dict(
    student=_base_.model,
    teacher=dict(
        config='mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py',
        checkpoint='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_2x_coco/faster_rcnn_r50_fpn_2x_coco_bbox_mAP-0.384_20200504_210434-a5d8aa15.pth',
        input_scale=2,
    ),
    **_base_.distiller,
)

keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction', 'teacher_img')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='kddense.ShrinkForStudent', factor=2),
    dict(type='PackDetInputs', meta_keys=keys),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
