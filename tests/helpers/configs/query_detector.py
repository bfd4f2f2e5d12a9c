"""How a tiny Deformable DETR is trained on the toy images of ``toy_task.py``; the model is that of ``transformers.py``."""

_base_ = './detector.py'

optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3), clip_grad=dict(max_norm=0.1))
