"""Apprentice on CamVid, scheme B with ternary weights, the two bits of the paper."""

_base_ = './apprentice_lite2_r18-w16_fpn_camvid.py'

default_hooks = dict(quantise=dict(weights=dict(_delete_=True, type='kddense.TernaryQuantiser')))
