"""CrossKD for FCOS on BCCD; the teacher is asked once about each of two variants of an image, a quarter of 8 epochs."""

_base_ = './crosskd_lite2_r18-w16_fcos_fpn_bccd.py'

variants = 2
model = dict(teacher=dict(type='kddense.CachedTeacher', folder='work_dirs/bccd_fcos_lite2/answers', variants=variants))
train_dataloader = dict(
    sampler=dict(type='kddense.VariantSampler'),
    dataset=dict(
        _delete_=True, type='kddense.VariantDataset', variants=variants, dataset={{_base_.train_dataloader.dataset}}
    ),
)
