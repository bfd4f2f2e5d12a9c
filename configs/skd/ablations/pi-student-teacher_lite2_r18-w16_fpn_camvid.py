"""The pixel-wise term as the paper's text has it: KL(student ‖ teacher)."""

_base_ = './pi_lite2_r18-w16_fpn_camvid.py'

model = dict(objectives=dict(pixel=dict(direction='student_teacher')))
