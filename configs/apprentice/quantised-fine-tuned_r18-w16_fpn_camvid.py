"""The trained student of CamVid goes on with weights of 4 bits as of WRPN, at a low rate, without a teacher."""

_base_ = './apprentice-fine-tuned_lite2_r18-w16_fpn_camvid.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(_delete_=True, **_base_.model.student)
