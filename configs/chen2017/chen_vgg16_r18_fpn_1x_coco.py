"""Chen et al. 2017 on COCO: Faster R-CNN with ResNet-18 learns from VGG16, which has to be trained first."""

_base_ = ['./faster-rcnn_r18_fpn_1x_coco.py', '../_base_/recipes/chen2017.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::chen2017/faster-rcnn_vgg16_fpn_1x_coco.py',
        checkpoint='work_dirs/faster-rcnn_vgg16_fpn_1x_coco/epoch_12.pth',
    ),
    **_base_.distiller,
)
