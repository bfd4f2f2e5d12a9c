"""The student on CamVid that sees blurred and noisy images, in tests too; the clean ones are kept for a teacher."""

_base_ = '../skd/fpn_r18-w16_camvid.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
degrade = dict(type='kddense.DegradeForStudent', noise=30.0, blur=1.5)
keys = ('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'reduce_zero_label')
pack = dict(type='PackSegInputs', meta_keys=(*keys, 'teacher_img'))
train_pipeline = [*_base_.train_pipeline[:-1], degrade, pack]
test_pipeline = [*_base_.test_pipeline[:-1], dict(degrade, fixed=True), _base_.test_pipeline[-1]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
