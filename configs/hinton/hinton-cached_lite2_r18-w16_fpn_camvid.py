"""The same with a teacher that is asked once about each of two variants of an image: about a quarter of the epochs."""

_base_ = './hinton_lite2_r18-w16_fpn_camvid.py'

variants = 2
model = dict(
    teacher=dict(type='kddense.CachedTeacher', folder='work_dirs/camvid_fpn/answers_hinton', variants=variants)
)
train_dataloader = dict(
    sampler=dict(type='kddense.InfiniteVariantSampler'),
    dataset=dict(
        _delete_=True, type='kddense.VariantDataset', variants=variants, dataset={{_base_.train_dataloader.dataset}}
    ),
)
