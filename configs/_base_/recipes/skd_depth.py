"""Liu et al. 2020 for any depth estimator of kddense: pair-wise, holistic; put it beside the student's config."""

# A student with kddense.DepthHead imports kddense itself: no custom_imports here, two bases may not both set it.
objectives = dict(
    pair=dict(type='kddense.PairWiseObjective'),
    holistic=dict(type='kddense.HolisticObjective'),
)
joint_optim_wrapper = dict(  # set `optim_wrapper` to it: the discriminator has an optimiser of its own
    constructor='kddense.JointOptimWrapperConstructor',
    objectives=dict(holistic=dict(optimizer=dict(type='Adam', lr=4e-4, betas=(0.9, 0.99)))),
)
