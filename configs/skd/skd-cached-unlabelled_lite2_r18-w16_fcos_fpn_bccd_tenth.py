"""The same with answers kept, of two variants of each image: with flips alone an image looks no other way."""

_base_ = './skd-unlabelled_lite2_r18-w16_fcos_fpn_bccd_tenth.py'

variants = 2
in_variants = dict(_delete_=True, type='kddense.VariantDataset', variants=variants)
model = dict(teacher=dict(type='kddense.CachedTeacher', folder='work_dirs/bccd_tenth/answers', variants=variants))
default_hooks = dict(unlabelled=dict(dataset=dict(**in_variants, dataset=_base_.images)))
train_dataloader = dict(
    sampler=dict(type='kddense.VariantSampler'),
    dataset=dict(**in_variants, dataset=_base_.train_dataloader.dataset),
)
