"""A specialised FCOS teacher: red cells alone, on the images that label them."""

_base_ = '../skd/fcos_lite2_fpn_bccd.py'

metainfo = dict(classes=('RBC',))
model = dict(bbox_head=dict(num_classes=1))
train_dataloader = dict(dataset=dict(metainfo=metainfo, indices=101))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = dict(dataset=dict(metainfo=metainfo))
