"""Liu et al. 2020 for any depth estimator of kddense: pair-wise, holistic; put it beside the student's config."""

__import__('kddense')  # what custom_imports would do, which a student's config may have of its own
objectives = dict(
    pair=dict(type='kddense.PairWiseObjective'),
    holistic=dict(type='kddense.HolisticObjective'),
)
distiller = dict(_delete_=True, type='kddense.Distiller', objectives=objectives)
joint_optim_wrapper = dict(  # set `optim_wrapper` to it: the discriminator has an optimiser of its own
    constructor='kddense.JointOptimWrapperConstructor',
    objectives=dict(holistic=dict(optimizer=dict(type='Adam', lr=4e-4, betas=(0.9, 0.99)))),
)
