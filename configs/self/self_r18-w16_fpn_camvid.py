"""Self attention distillation on CamVid: each stage of the backbone looks where the next one does, in the second half."""

_base_ = '../skd/fpn_r18-w16_camvid.py'

self = dict(type='kddense.SelfAttentionObjective', levels=[1, 2, 3], weight=dict(value=0.1, start=0.5))
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(_delete_=True, type='kddense.Distiller', student=_base_.model, objectives=dict(self=self))
