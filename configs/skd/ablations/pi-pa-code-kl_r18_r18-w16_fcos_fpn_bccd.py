"""PI + PA, with KL(teacher ‖ student) as in the released code, instead of the paper's KL(student ‖ teacher)."""

_base_ = './pi-pa_r18_r18-w16_fcos_fpn_bccd.py'

model = dict(objectives=dict(pixel=dict(direction='teacher_student')))
