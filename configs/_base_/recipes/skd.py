"""Liu et al. 2019, 2020 for any segmentor of mmseg: pixel-wise, pair-wise, holistic; put it behind the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    pixel=dict(type='kddense.PixelWiseObjective'),
    pair=dict(type='kddense.PairWiseObjective'),
    holistic=dict(type='kddense.HolisticObjective'),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
joint_optim_wrapper = dict(  # set `optim_wrapper` to it: the discriminator has an optimiser of its own
    constructor='kddense.JointOptimWrapperConstructor',
    objectives=dict(holistic=dict(optimizer=dict(type='Adam', lr=4e-4, betas=(0.9, 0.99)))),
)
