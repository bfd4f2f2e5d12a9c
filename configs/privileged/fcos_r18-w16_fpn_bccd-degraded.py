"""The FCOS student on BCCD that sees blurred and noisy images, in tests too; the clean ones are kept for a teacher."""

_base_ = '../skd/fcos_r18-w16_fpn_bccd.py'

custom_imports = dict(imports=['kddense'], allow_failed_imports=False)
degrade = dict(type='kddense.DegradeForStudent', noise=30.0, blur=1.5)
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction', 'teacher_img')
train_pipeline = [*_base_.train_pipeline[:-1], degrade, dict(type='PackDetInputs', meta_keys=keys)]
test_pipeline = [*_base_.test_pipeline[:-1], dict(degrade, fixed=True), _base_.test_pipeline[-1]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
