"""The FCOS teacher on half of BCCD's images, the first, which have labels."""

_base_ = '../skd/fcos_lite2_fpn_bccd.py'

train_dataloader = dict(dataset=dict(indices=102))
