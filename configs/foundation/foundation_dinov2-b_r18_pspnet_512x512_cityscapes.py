"""PSPNet with ResNet-18 on Cityscapes learns from DINOv2, base size."""

_base_ = ['../skd/pspnet_r18_512x512_cityscapes.py', '../_base_/recipes/cosine.py']

model = dict(
    student=_base_.model,
    teacher=dict(
        type='kddense.TimmTeacher',
        model='vit_base_patch14_reg4_dinov2.lvd142m',
        pretrained=True,  # timm downloads the weights once
        input_scale=0.875,  # one patch of 14 pixels for 16 pixels of the student
        precision='bf16',
    ),
    **_base_.distiller,
)
