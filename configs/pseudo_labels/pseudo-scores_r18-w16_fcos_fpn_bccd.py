"""The same, where a box that the teacher found weighs as much as its score."""

_base_ = './pseudo_r18-w16_fcos_fpn_bccd.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(_delete_=True, type='kddense.Distiller', student=_base_.model)
scored = dict(type='kddense.PseudoLabels', dataset=_base_.found)
train_dataloader = dict(dataset=dict(datasets=[_base_.labelled, scored]))
