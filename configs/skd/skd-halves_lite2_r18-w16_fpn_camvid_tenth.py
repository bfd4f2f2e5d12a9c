"""The same with half of each batch without labels, in place of as many more, and with answers that can be kept."""

_base_ = './skd-unlabelled_lite2_r18-w16_fpn_camvid_tenth.py'

variants = 32  # as many as epochs of the labelled images: no crop comes again
in_variants = dict(_delete_=True, type='kddense.VariantDataset', variants=variants)
default_hooks = dict(unlabelled=dict(dataset=dict(**in_variants, dataset=_base_.images)))
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type='kddense.InfiniteVariantSampler'),
    dataset=dict(**in_variants, dataset=_base_.train_dataloader.dataset),
)
