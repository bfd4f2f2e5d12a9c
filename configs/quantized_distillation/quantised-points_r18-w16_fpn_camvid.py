"""A trained student's weights rest on CamVid; the points they are rounded to learn from the labels, without a teacher."""

_base_ = './points_lite2_r18-w16_fpn_camvid.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(_delete_=True, **_base_.model.student)
