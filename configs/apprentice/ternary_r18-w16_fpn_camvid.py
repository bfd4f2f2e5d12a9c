"""The student of CamVid with ternary weights, without a teacher."""

_base_ = './quantised_r18-w16_fpn_camvid.py'

default_hooks = dict(quantise=dict(weights=dict(_delete_=True, type='kddense.TernaryQuantiser')))
