"""The student of CamVid with weights of 4 bits as of WRPN, without a teacher."""

_base_ = '../skd/fpn_r18-w16_camvid.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
default_hooks = dict(
    quantise=dict(type='kddense.QuantiseHook', weights=dict(type='kddense.WRPNQuantiser', bits=4)),
)
