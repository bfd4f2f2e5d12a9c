"""A born-again student on BCCD: it learns the labels, and the classes of a trained network of its own kind."""

_base_ = '../skd/fcos_r18-w16_fpn_bccd.py'

ban = dict(type='kddense.BANObjective', weight=10.0)  # a mean over all places is small
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    teacher=dict(
        config='kddense::skd/fcos_r18-w16_fpn_bccd.py', checkpoint='work_dirs/ban_bccd/generation_0/epoch_8.pth'
    ),
    objectives=dict(ban=ban),
)
