"""A specialised FCOS teacher: all but red cells, on the images that label them."""

_base_ = '../skd/fcos_lite2_fpn_bccd.py'

metainfo = dict(classes=('WBC', 'Platelets'))
model = dict(bbox_head=dict(num_classes=2))
train_dataloader = dict(dataset=dict(metainfo=metainfo, indices=-102))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = dict(dataset=dict(metainfo=metainfo))
