"""Feature energy and affinities by hand, and where they are looked for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kddense.exchange import Shown
from kddense.report import affinities, feature_energy
from kddense.report.knowledge import inside, map_at, question, shared_tap, shown_by

WITH_NECK = SimpleNamespace(model=SimpleNamespace(neck=object()), kinds_behind=lambda taps: 'roi_head' in taps[0])
WITHOUT_NECK = SimpleNamespace(model=SimpleNamespace(), kinds_behind=lambda taps: False)


def test_energy_is_the_length_of_the_feature_scaled_to_one():
    feature = torch.tensor([[[3.0, 0.0]], [[4.0, 1.0]]])  # lengths 5 and 1
    np.testing.assert_allclose(feature_energy(feature), [[1.0, 0.0]])
    feature[:, 0, 1] = torch.tensor([0.0, 3.0])
    feature = torch.cat([feature, torch.ones(2, 1, 1) / 2**0.5], dim=2)  # 5, 3 and 1 before the root of the mean
    np.testing.assert_allclose(feature_energy(feature), [[1.0, 0.5, 0.0]], atol=1e-6)


def test_energy_of_a_flat_map_is_zero():
    assert not feature_energy(torch.ones(3, 2, 2)).any()


def test_affinities_are_cosines():
    feature = torch.tensor([[[1.0, 0.0, -2.0]], [[0.0, 3.0, 0.0]]])
    torch.testing.assert_close(affinities(feature)[0, :, 0], torch.tensor([[1.0, 0.0, -1.0], [0, 1, 0], [-1, 0, 1]]))


def test_affinities_of_a_large_map_are_of_a_grid():
    assert affinities(torch.rand(4, 64, 20)).shape == (16, 20, 16, 20)


@pytest.mark.parametrize(
    'shown, view, expected',
    [
        ([Shown(), Shown('decode_head', 'decode_head')], WITH_NECK, ('decode_head', 'decode_head')),
        ([Shown('neck', 'backbone')], WITH_NECK, ('neck', 'backbone')),
        ([Shown(pairs='pixels')], WITH_NECK, ('neck', 'neck')),
        ([Shown(*['roi_head.bbox_head.fc_cls'] * 2)], WITH_NECK, ('neck', 'neck')),
        ([], WITHOUT_NECK, ('backbone', 'backbone')),
    ],
)
def test_features_are_looked_at_where_an_objective_listens(shown, view, expected):
    assert tuple(shared_tap(shown, view, side) for side in ('student', 'teacher')) == expected


def test_of_a_pyramid_the_finest_level_is_shown():
    levels = [torch.zeros(1, 2, size, size) for size in (4, 8, 2)]
    assert map_at(tuple(levels)).shape == (2, 8, 8)
    with pytest.raises(ValueError, match=r'no map of shape \(N, C, h, w\)'):
        map_at(torch.zeros(3, 4))


@pytest.mark.parametrize(
    'objective, expected',
    [
        (dict(type='kddense.PairWiseObjective'), Shown(pairs='pixels')),
        (dict(type='kddense.PairWiseObjective', on='bbox_head'), Shown(pairs='scores')),
        (dict(type='kddense.PixelWiseObjective'), Shown()),
        (dict(type='kddense.FeatureObjective', tap='neck'), Shown('neck', 'neck')),
        (dict(type='kddense.FeatureObjective', tap='neck', teacher_tap='backbone'), Shown('neck', 'backbone')),
        (dict(type='kddense.HintObjective'), Shown()),  # where it is shared, is known with the models
    ],
)
def test_objectives_say_what_of_them_is_shown(objective, expected):
    assert shown_by(dict(it=objective)) == [expected]


@pytest.mark.parametrize(
    'objective',
    [
        dict(type='kddense.AttentiveDepthHintObjective', error_range='nowhere.json'),
        dict(type='NoObjective'),
        dict(type='kddense.PairWiseObjective', weight=0),
    ],
)
def test_an_objective_that_cannot_be_built_or_is_off_shows_nothing(objective):
    assert shown_by(dict(it=objective, pair=dict(type='kddense.PairWiseObjective'))) == [Shown(pairs='pixels')]


def test_a_model_is_asked_for_both(structured):
    from kddense.teachers import FrozenTeacher

    teacher = FrozenTeacher(**structured.teacher)
    answer = teacher.view.answer(question('backbone', 'pixels'), torch.rand(1, 3, 64, 64))
    assert map_at(answer.taps['backbone']).ndim == 3
    (opinion,) = answer.opinions['pixels']
    assert affinities(opinion.feature[0]).diagonal(dim1=0, dim2=2).shape[0] > 0


def test_padding_is_cut_off():
    assert inside(torch.zeros(2, 8, 16), (48, 128), (64, 128)).shape == (2, 6, 16)
