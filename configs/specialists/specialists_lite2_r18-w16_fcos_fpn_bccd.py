"""Soft classes of the places of FCOS from two specialised teachers, each about images of its own label set."""

_base_ = ['./fcos_r18-w16_fpn_two-sets_bccd.py', '../_base_/recipes/hinton_dense.py']

model = dict(
    _delete_=True,
    type='kddense.Distiller',
    student=_base_.model,
    teacher=dict(
        red=dict(
            config='kddense::specialists/fcos_lite2_fpn_red_bccd.py',
            checkpoint='work_dirs/bccd_specialists/red/epoch_12.pth',
            class_map=['RBC', None, None],
            datasets=['red'],
        ),
        white=dict(
            config='kddense::specialists/fcos_lite2_fpn_white_bccd.py',
            checkpoint='work_dirs/bccd_specialists/white/epoch_12.pth',
            class_map=[None, 'WBC', 'Platelets'],
            datasets=['white'],
        ),
    ),
    objectives=dict(
        red=dict(teacher='red', **_base_.objectives.soft),
        white=dict(teacher='white', **_base_.objectives.soft),
    ),
)
