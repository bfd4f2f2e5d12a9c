"""Structured distillation with images that have no labels: CamVid's validation clip stands in for frames of your own."""

_base_ = './skd_r18-w32_r18-w8_pspnet_camvid.py'

default_hooks = dict(
    unlabelled=dict(
        type='kddense.UnlabelledImagesHook',
        ratio=1,
        dataset=dict(type='BaseSegDataset', data_prefix=dict(img_path='data/camvid/images/val')),
    )
)
