"""Soft targets per pixel on CamVid with every tenth label: in each batch as many images without a label."""

_base_ = ['../skd/fpn_r18-w16_camvid_tenth.py', '../_base_/recipes/hinton.py']

images = dict(type='BaseSegDataset', data_root='data/camvid/', data_prefix=dict(img_path='images/train'))
default_hooks = dict(unlabelled=dict(type='kddense.UnlabelledImagesHook', ratio=1, dataset=images))
model = dict(
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_lite2_camvid_tenth.py',
        checkpoint='work_dirs/camvid_tenth/teacher/iter_350.pth',
        channels_last=True,
    ),
    **_base_.distiller,
)
