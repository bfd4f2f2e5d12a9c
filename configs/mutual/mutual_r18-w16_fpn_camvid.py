"""Deep mutual learning on CamVid: the student, and the same on a full ResNet-18 beside it; both from random weights."""

_base_ = '../skd/fpn_r18-w16_camvid.py'

compare = dict(type='kddense.PixelWiseObjective', on='decode_head', weight=1.0)
mutual = dict(type='kddense.MutualObjective', peer='kddense::takd/fpn_r18_camvid.py', compare=compare)
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(_delete_=True, type='kddense.Distiller', student=_base_.model, objectives=dict(mutual=mutual))
default_hooks = dict(peer=dict(type='kddense.PeerHook'))
