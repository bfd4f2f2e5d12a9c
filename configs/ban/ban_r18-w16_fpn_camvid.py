"""A born-again student on CamVid: it learns the labels, and the classes of a trained network of its own kind."""

_base_ = '../skd/fpn_r18-w16_camvid.py'

ban = dict(type='kddense.BANObjective', weight=1.0)
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fpn_r18-w16_camvid.py', checkpoint='work_dirs/ban_camvid/generation_0/iter_600.pth'
    ),
    objectives=dict(ban=ban),
)
