"""Generalized distillation of depth on NYUv2: a teacher that is told the depth of 200 pixels."""

_base_ = '../skd/depth_r18-w8_nyuv2.py'

sparse = dict(type='kddense.AddSparseDepth', points=200)
pack = dict(_base_.pack, meta_keys=(*_base_.pack.meta_keys, 'teacher_img'))
pipeline = [_base_.load, _base_.load_depth, _base_.resize, *_base_.distort, sparse, pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))

half = {'decode.loss_silog': 0.5, 'decode.loss_log_l1': 0.5}  # 1 - λ
imitation = dict(
    type='kddense.FeatureObjective',
    tap='decode_head.decoder',
    loss=dict(type='kddense.HintLoss', norm='l1'),
    weight=0.5,
)
model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    teacher=dict(
        config='kddense::privileged/depth_r18-sparse_nyuv2.py',
        checkpoint='work_dirs/nyuv2_sparse/teacher/iter_2000.pth',
        image='teacher_img',
    ),
    objectives=dict(imitation=imitation),
    task_weights=half,
)
