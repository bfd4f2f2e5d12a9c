"""BAN on BCCD: generations, ensembles of them at test and as a teacher, and what of a teacher helps: CWTM, DKPP."""

small, born_again = 'kddense::skd/fcos_r18-w16_fpn_bccd.py', 'kddense::ban/ban_r18-w16_fcos_fpn_bccd.py'
generations = 3
seeds, plain = [0, 1, 2], 'plain'
links = dict(plain=dict(config=small))
for number in range(1, generations + 1):
    above = f'generation_{number - 1}' if number > 1 else 'plain'
    links[f'generation_{number}'] = dict(config=born_again, teacher=above, seed_offset=100 * number)
names = [f'generation_{number}' for number in range(1, generations + 1)]
for mode in ('cwtm', 'dkpp'):
    options = {'model.objectives.ban.mode': mode}
    links[mode] = dict(config=born_again, teacher='plain', options=options, seed_offset=100)
links['ensemble'] = dict(config=small, ensemble=names)
together = dict(type='kddense.EnsembleTeacher', members=[dict(link=name) for name in names])
links['of_the_ensemble'] = dict(config=born_again, teacher=together, seed_offset=100 * (generations + 1))
links['longer'] = dict(config=small, same_time=['plain', names[-1]])
