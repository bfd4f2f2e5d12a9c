"""The same with the student in the memory format that suits CPUs."""

_base_ = './hinton-cached_lite2_r18-w16_fpn_camvid.py'

model = dict(teacher=dict(folder='work_dirs/camvid_fpn/answers_hinton_fast'))
custom_hooks = [dict(type='kddense.ChannelsLastHook')]
