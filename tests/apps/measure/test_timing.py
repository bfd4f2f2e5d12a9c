"""Step times that are taken in turns."""

from kddense import Distiller, FrozenTeacher
from kddense.apps.measure import timing
from kddense.apps.measure.timing import step_times

from ...helpers.clocks import counting_clock


def test_a_distilled_step_takes_longer(segmentor, tmp_path):
    segmentor.plain().dump(tmp_path / 'plain.py')
    distilled = segmentor.distilled()
    distilled.model.teacher['input_scale'] = 4.0  # so dear that a busy machine cannot hide it
    distilled.dump(tmp_path / 'distilled.py')
    configs = [str(tmp_path / name) for name in ('plain.py', 'distilled.py')]

    times = step_times(configs, tmp_path, {}, channels_last=True, rounds=3)

    assert times['ratio'][configs[0]] == 1.0
    assert times['ratio'][configs[1]] > 1.0
    assert times['rounds'] == 3
    assert all(0 < seconds < 60 for seconds in times['seconds'].values())
    assert times['seconds'].keys() == times['ratio'].keys() == set(configs)


def test_a_method_of_a_part_of_the_run_costs_that_part(segmentor, tmp_path):
    segmentor.plain().dump(tmp_path / 'plain.py')
    configs = [str(tmp_path / 'plain.py')]
    for name, stop in (('fifth', 0.2), ('whole', 1.0)):
        distilled = segmentor.distilled(train_cfg__max_iters=20)
        for objective in distilled.model.objectives.values():
            objective.weight = dict(value=1.0, stop=stop)
        distilled.dump(tmp_path / f'{name}.py')
        configs.append(str(tmp_path / f'{name}.py'))

    with counting_clock(timing, FrozenTeacher, 'answer', 1):
        _, fifth, whole = step_times(configs, tmp_path, {}, rounds=5)['ratio'].values()

    assert 1.0 < fifth < whole
    assert (fifth, whole) == (1.2, 2.0)  # one round of five has the teacher, or all have


def test_objectives_know_the_data_set(segmentor, tmp_path):
    segmentor.plain().dump(tmp_path / 'plain.py')
    distilled = segmentor.distilled()
    distilled.model.objectives = dict(crd=dict(type='kddense.CRDObjective', dim=4))
    distilled.dump(tmp_path / 'with_a_bank.py')

    times = step_times([str(tmp_path / name) for name in ('plain.py', 'with_a_bank.py')], tmp_path, {}, rounds=1)

    assert len(times['ratio']) == 2


def test_images_without_labels_are_part_of_a_step(segmentor, tmp_path, monkeypatch):
    plain, distilled = segmentor.plain(), segmentor.distilled()
    images = dict(plain.train_dataloader.dataset)
    del images['pipeline']
    distilled.custom_hooks = [dict(type='kddense.UnlabelledImagesHook', ratio=2, dataset=images)]
    plain.dump(tmp_path / 'plain.py')
    distilled.dump(tmp_path / 'distilled.py')
    seen = []
    loss = Distiller.loss

    def noted(self, inputs, data_samples):
        seen.append(len(inputs))
        return loss(self, inputs, data_samples)

    monkeypatch.setattr(Distiller, 'loss', noted)
    step_times([str(tmp_path / name) for name in ('plain.py', 'distilled.py')], tmp_path, {}, rounds=1)

    assert seen == [3 * plain.train_dataloader.batch_size] * 2
