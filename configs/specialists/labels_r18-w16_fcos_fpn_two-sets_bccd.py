"""The student of two label sets without a teacher: what an image does not label is no background to it."""

_base_ = './fcos_r18-w16_fpn_two-sets_bccd.py'

model = dict(_delete_=True, type='kddense.Distiller', student=_base_.model)
