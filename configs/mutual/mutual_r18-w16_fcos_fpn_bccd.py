"""Deep mutual learning on BCCD: the student, and the same on a full ResNet-18 beside it; both from random weights."""

_base_ = '../skd/fcos_r18-w16_fpn_bccd.py'

compare = dict(type='kddense.DenseHintonObjective', weight=10.0)
mutual = dict(type='kddense.MutualObjective', peer='kddense::skd/fcos_r18_fpn_bccd.py', compare=compare)
custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
model = dict(_delete_=True, type='kddense.Distiller', student=_base_.model, objectives=dict(mutual=mutual))
default_hooks = dict(peer=dict(type='kddense.PeerHook'))
