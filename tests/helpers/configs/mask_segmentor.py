"""How a tiny Mask2Former is trained on the toy images of ``toy_task.py``; the model is that of ``mask_models.py``."""

_base_ = './segmentor.py'

optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3), clip_grad=dict(max_norm=0.01))
