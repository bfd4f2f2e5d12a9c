"""Step times that are taken in turns."""

from kddense.apps.measure.timing import step_times


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
