"""Deep mutual learning: both learn the task and from each other, in families that share places, in one process or two."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from torch.nn import functional as F

from ..helpers import detectors, plugins, tiny
from ..helpers.two_processes import in_two_processes

STUDENT, WIDE = (tiny.segmentor('pspnet_r50-d8', width=width) for width in (8, 12))
DATA = tiny.segmentation_data()
PIXELS = dict(type='kddense.PixelWiseObjective', weight=2.0)
FCOS = [detectors.one_stage('fcos'), detectors.one_stage('fcos', width=12)]
DENSE = dict(type='kddense.DenseHintonObjective', weight=5.0)


def mutual(peer=WIDE, compare=PIXELS, **options):
    return dict(type='kddense.MutualObjective', peer=peer, compare=compare, **options)


def distiller(objective=None, student=STUDENT, scope='mmseg'):
    config = dict(type='kddense.Distiller', student=student, objectives=dict(m=objective or mutual()))
    model = tiny.build(config, scope=scope)
    tiny.shake(model.student, model.objectives['m'].peer.model)
    return model


def calm(config):
    norm = dict(type='GN', num_groups=2, requires_grad=True)
    changes = {f'{part}.norm_cfg': norm for part in ('backbone', 'decode_head', 'auxiliary_head')}
    return tiny.edit(config, changes | {f'{head}.dropout_ratio': 0.0 for head in ('decode_head', 'auxiliary_head')})


def test_each_learns_what_the_other_says():
    model = distiller(mutual(calm(WIDE), weight=0.5, peer_weight=3.0), calm(STUDENT))
    peer = model.objectives['m'].peer.model
    plugins.at_iteration(0)
    losses = tiny.step(model, DATA)
    batch = model.data_preprocessor(copy.deepcopy(DATA), True)
    own, other = (one(batch['inputs'], None, mode='tensor').flatten(2).log_softmax(1) for one in (model.student, peer))
    there = F.kl_div(own, other, log_target=True, reduction='none').sum(1).mean()
    back = F.kl_div(other, own, log_target=True, reduction='none').sum(1).mean()
    assert float(losses['distill.m.loss']) == pytest.approx(0.5 * 2 * float(there), rel=1e-4)
    assert float(losses['distill.m.loss_peer']) == pytest.approx(3 * 2 * float(back), rel=1e-4)
    task = peer(batch['inputs'], batch['data_samples'], mode='loss')
    expected = sum(float(value) for key, value in task.items() if 'loss' in key)
    assert float(losses['distill.m.loss_peer_task']) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    'student, peer, compare, scope, data',
    [
        (STUDENT, WIDE, PIXELS, 'mmseg', DATA),
        (*FCOS, DENSE, 'mmdet', tiny.detection_data()),
        (STUDENT, WIDE, dict(type='kddense.ATObjective', weight=10.0), 'mmseg', DATA),
    ],
    ids=['pixels', 'dense', 'taps'],
)
def test_no_gradient_flows_into_what_the_other_says(student, peer, compare, scope, data):
    model = distiller(mutual(peer, compare), student, scope)
    plugins.at_iteration(0)
    losses = tiny.step(model, data)
    other = model.objectives['m'].peer.model
    losses['distill.m.loss'].backward(retain_graph=True)
    assert any(one.grad is not None and one.grad.any() for one in model.student.parameters())
    assert all(one.grad is None for one in other.parameters())
    model.zero_grad()
    losses['distill.m.loss_peer'].backward()
    assert any(one.grad is not None and one.grad.any() for one in other.parameters())
    assert all(one.grad is None for one in model.student.parameters())
    plugins.train(model, data)


def test_contracts():
    build = lambda: distiller()  # noqa: E731
    model = build()
    plugins.train(model, DATA)
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=build)


def test_peers_begin_with_weights_of_their_own():
    """Of one architecture and one stream of random numbers: else they would be one network twice."""
    model = tiny.build(
        dict(type='kddense.Distiller', student=STUDENT, objectives=dict(m=mutual(STUDENT))), scope='mmseg'
    )
    torch.manual_seed(0)
    model.init_weights()
    own, other = (one.decode_head.conv_seg.weight for one in (model.student, model.objectives['m'].peer.model))
    assert not torch.equal(own, other)
    torch.manual_seed(0)
    plain = tiny.build(STUDENT, scope='mmseg')
    torch.manual_seed(0)
    plain.init_weights()
    assert torch.equal(plain.decode_head.conv_seg.weight, own), 'the student begins as without a peer'


def test_two_processes_are_one(tmp_path):
    model = distiller(mutual(calm(WIDE)), calm(STUDENT))
    whole = copy.deepcopy(model)

    def gradients(one, data):
        MessageHub.get_current_instance().update_info_dict(dict(iter=0, max_iters=10))
        losses = tiny.step(one, data)
        one.parse_losses(losses)[0].backward()
        return {key: value.grad for key, value in one.named_parameters() if value.grad is not None}

    expected = gradients(whole, DATA)
    halves = in_two_processes(lambda rank: gradients(model, {key: one[rank::2] for key, one in DATA.items()}), tmp_path)
    assert any('peer' in key for key in expected)
    for key, value in expected.items():
        mean = (halves[0][key] + halves[1][key]) / 2
        torch.testing.assert_close(mean, value, rtol=0, atol=1e-5 * float(value.abs().max()) + 1e-9, msg=key)


def more_classes(config):
    return tiny.edit(config, {'decode_head.num_classes': 7, 'auxiliary_head.num_classes': 7})


@pytest.mark.parametrize(
    'objective, sentence',
    [
        (
            mutual(more_classes(WIDE)),
            r'objectives.m.peer: it has 7 classes and the student \d: both must have the same',
        ),
        (mutual(compare=dict(PIXELS, weight=dict(value=1.0, stop=3))), 'compare.weight must be a number'),
        (mutual(compare=dict(type='kddense.HolisticObjective')), 'compare must be an objective that compares taps'),
        (mutual('nowhere.py'), "peer.config: there is no file 'nowhere.py'"),
        (mutual(FCOS[0]), 'objectives.m.peer'),
    ],
)
def test_peers_that_cannot_learn_from_each_other(objective, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as error:
        distiller(objective)
    assert '\n' not in str(error.value)


def test_classes_of_other_names_are_refused(tmp_path):
    (tmp_path / 'peer.py').write_text(
        f"model = {tiny.edit(WIDE).to_dict()!r}\ndefault_scope = 'mmseg'\n"
        "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('a', 'b'))))\n"
    )
    model = distiller(mutual(str(tmp_path / 'peer.py')))
    run = "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('b', 'a'))))\n"
    with pytest.raises(ValueError, match='peer: its classes are a, b, those of the run b, a'):
        model.objectives['m'].check_run(run, None)
    model.objectives['m'].check_run(run.replace("'b', 'a'", "'a', 'b'"), None)
