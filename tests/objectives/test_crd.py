"""CRD: samples and their ids, both forms, by instance and by class, memories that are new, resumed, or of two processes."""

import math

import pytest
import torch
from torch.nn import functional as F

from kddense.configs import training_set_boxes
from kddense.losses import info_nce

from ..helpers import plugins, tiny
from ..helpers.two_processes import in_two_processes

PSPNET = tiny.segmentor('pspnet_r50-d8')
WIDE = tiny.segmentor('pspnet_r50-d8', width=12, head=24)


def named(data, *names):
    for sample, name in zip(data['data_samples'], names or ('a', 'b', 'c', 'd'), strict=False):
        sample.set_metainfo(dict(img_path=name))
    return data


def images(*names):
    return named(tiny.segmentation_data(count=len(names)), *names)


BOXES = named(tiny.detection_data())


def build(student=PSPNET, teacher=WIDE, scope='mmseg', **options):
    options = dict(dict(size=6, dim=8), **options)
    return tiny.distiller(student, teacher, dict(it=dict(type='kddense.CRDObjective', **options)), scope)


def detectors(**options):
    return build(tiny.faster_rcnn(), tiny.faster_rcnn(width=12, fpn=24), 'mmdet', **options)


def listened(model):
    """Note the vectors of both sides of the next step."""
    found, objective = [], model.objectives['it']
    embed = objective._embed

    def noted(*arguments):
        found.append(embed(*arguments))
        return found[-1]

    objective._embed = noted
    return found


def plain_contrast(anchors, partners, bank, masks, log_constant, temperature=0.07):
    """Return one direction in plain numbers."""
    total, rows = 0.0, len(bank)
    for anchor, partner, mask in zip(anchors, partners, masks, strict=True):
        others = bank[mask]
        share = len(others) / rows
        e = ((anchor @ partner) / temperature - log_constant).exp()
        total = total - (e / (e + share)).log()
        e = ((others @ anchor) / temperature - log_constant).exp()
        total = total - (share / (e + share)).log().sum()
    return total / len(anchors)


def test_a_new_memory_has_nothing_to_compare_and_the_second_step_has():
    model = build()
    objective = model.objectives['it']
    first = tiny.step(model, images('a', 'b'))['distill.it.loss']
    assert first.item() == 0
    first.backward()
    assert objective.log_constants.isnan().all()
    before = [bank.vectors.clone() for bank in objective.banks]
    found = listened(model)
    loss = tiny.step(model, images('a', 'c'))['distill.it.loss']
    student, teacher = (side.detach() for side in found)
    total = 0.0
    for direction, (anchors, other, bank) in enumerate(((student, teacher, before[1]), (teacher, student, before[0]))):
        masks = [torch.tensor([False, True]), torch.tensor([True, True])]  # of a, the row of a is no other
        partners = [bank[0], other[1]]  # c is new
        similar = [anchors[0] @ bank[0], anchors[1] @ other[1], anchors[0] @ bank[1], *(bank[:2] @ anchors[1])]
        constant = (torch.stack(similar) / 0.07).exp().mean().log() + math.log(6)
        torch.testing.assert_close(objective.log_constants[direction], constant)
        rows = torch.cat([bank[:2], torch.zeros(4, 8)])
        masks = [torch.cat([mask, torch.zeros(4, dtype=torch.bool)]) for mask in masks]
        total = total + plain_contrast(anchors, partners, rows, masks, constant)
    torch.testing.assert_close(loss.detach(), 0.8 * total, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(objective.banks[0].vectors[2], F.normalize(before[0][2] + student[1], dim=0))
    constants = objective.log_constants.clone()
    tiny.step(model, images('b', 'c'))
    assert torch.equal(objective.log_constants, constants), 'Z is set once'


@pytest.mark.parametrize('negatives', ['class', 'instance'])
def test_boxes_of_the_same_class_are_no_negatives(negatives):
    model = detectors(negatives=negatives, form='batch')
    found = listened(model)
    loss = tiny.step(model, BOXES)['distill.it.loss']
    labels = torch.cat([sample.gt_instances.labels for sample in BOXES['data_samples']])
    assert len(labels) == len(found[0]) == 5
    same = labels[:, None] == labels if negatives == 'class' else None
    torch.testing.assert_close(loss, 0.8 * info_nce(*found, 0.07, same))


def test_boxes_are_known_by_image_and_number_and_looked_at_in_a_level_of_their_size():
    model = detectors()
    tiny.step(model, BOXES)
    objective = model.objectives['it']
    bank = objective.banks[0]
    before = bank.vectors.clone()
    assert len(bank.ids) == 5
    assert bank.labels.tolist() == [0, 1, 2, 0, 1, -1]
    assert torch.equal(bank.index(['b/1', 'a/0']), torch.tensor([4, 0]))
    tiny.step(model, BOXES)
    assert len(bank.ids) == 5, 'the same in the next epoch'
    assert (bank.vectors != before).any(1).tolist() == [True] * 5 + [False]


def test_the_mean_of_a_box_is_that_of_its_cells():
    from kddense.objectives._box_features import level_means

    fine = torch.zeros(2, 1, 16, 16)
    fine[1, :, 4:8, 8:12] = 3
    coarse = torch.full((2, 1, 8, 8), 5.0)
    boxes = torch.tensor([[1, 32.0, 16, 48, 32], [0, 0, 0, 63, 63], [0, 32, 16, 48, 32]])
    means, order = level_means([fine, coarse], boxes, width=64, stride=2)
    assert [len(one) for one in means] == [2, 1]
    torch.testing.assert_close(torch.cat(means)[order, 0], torch.tensor([3.0, 5, 0]), rtol=0, atol=0.5)


@pytest.mark.parametrize('positives', ['instance', 'class'])
def test_positives(positives):
    model = detectors(positives=positives, negatives='class')
    objective = model.objectives['it']
    tiny.step(model, BOXES)
    with torch.no_grad():
        objective.banks[1].vectors[:] = torch.eye(8)[:6]
        same = objective._of_class(torch.zeros(5, 8), objective.banks[1], torch.tensor([0, 1, 2, 0, 5]), known=5)
    assert (same[:4] @ torch.eye(8)[:5].T).sum(1).tolist() == [1, 1, 1, 1]
    assert same[2].tolist() == torch.eye(8)[2].tolist()
    assert same[4].tolist() == [0] * 8, 'a class that the memory does not know'
    assert tiny.step(model, BOXES)['distill.it.loss'] > 0


def test_images_without_boxes_are_a_zero_that_reaches_every_layer():
    model = detectors()
    tiny.step(model, BOXES)
    loss = tiny.step(model, named(tiny.detection_data(boxes=((), ()))))['distill.it.loss']
    loss.backward()
    assert loss.item() == 0
    assert all(one.grad is not None for one in model.objectives['it'].parameters())


@pytest.mark.parametrize('on', ['segmentor', 'boxes'])
def test_it_trains_under_all_contracts(on):
    def rebuild(**options):
        return build(**options) if on == 'segmentor' else detectors(**options)

    model = rebuild()
    scope, student, data = (
        ('mmseg', PSPNET, images('a', 'b')) if on == 'segmentor' else ('mmdet', tiny.faster_rcnn(), BOXES)
    )
    plugins.train(model, data)
    plugins.assert_contracts(model, student, scope, rebuild=rebuild)
    plugins.assert_contracts(model, student, scope, rebuild=lambda: rebuild(size=None))


def test_what_was_saved_goes_on_bit_for_bit():
    model, other = build(), build()
    for batch in (images('a', 'b'), images('b', 'c')):
        tiny.step(model, batch)
    other.load_state_dict(model.state_dict())
    for student in (model.student, other.student):
        student.eval()
    torch.manual_seed(3)
    own = plugins.losses_of(model, images('a', 'd'))['distill.it.loss']
    torch.manual_seed(3)
    assert torch.equal(own, plugins.losses_of(other, images('a', 'd'))['distill.it.loss'])
    for first, second in zip(model.objectives['it'].banks, other.objectives['it'].banks, strict=True):
        assert torch.equal(first.vectors, second.vectors)


def one_of_two(rank):
    model = build(others=100)
    for names in (('a', 'b', 'c', 'd'), ('b', 'a', 'd', 'c')):
        half = images(*names)
        half = {key: value[2 * rank : 2 * rank + 2] for key, value in half.items()}
        model.objectives['it'].zero_grad()
        model.student.eval()
        loss = plugins.losses_of(model, half)['distill.it.loss']
    loss.backward()
    gradients = torch.cat([one.grad.flatten() for one in model.objectives['it'].parameters()])
    torch.distributed.all_reduce(gradients)
    banks = torch.cat([bank.vectors for bank in model.objectives['it'].banks])
    return gradients / 2, banks, model.objectives['it'].log_constants


def test_two_processes_with_half_the_batch_are_one_with_the_whole(tmp_path):
    first, second = in_two_processes(one_of_two, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    model = build(others=100)
    model.student.eval()
    for names in (('a', 'b', 'c', 'd'), ('b', 'a', 'd', 'c')):
        loss = plugins.losses_of(model, images(*names))['distill.it.loss']
    loss.backward()
    gradients = torch.cat([one.grad.flatten() for one in model.objectives['it'].parameters()])
    for own, other in zip(
        first,
        (gradients, torch.cat([b.vectors for b in model.objectives['it'].banks]), model.objectives['it'].log_constants),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)


CONFIG = """
default_scope = 'mmdet'
train_dataloader = dict(dataset=dict(
    type='CocoDataset', ann_file='{file}', data_prefix=dict(img=''), pipeline=[dict(type='PackDetInputs')],
    metainfo=dict(classes=('a', 'b', 'c'))))
"""


@pytest.fixture
def coco(tmp_path):
    import json

    boxes = [dict(id=i, image_id=i % 2, category_id=i % 3, bbox=[1, 1, 9, 9], area=81, iscrowd=0) for i in range(5)]
    pictures = [dict(id=i, file_name=f'{i}.png', height=64, width=64) for i in range(2)]
    classes = [dict(id=i, name=name) for i, name in enumerate('abc')]
    (tmp_path / 'boxes.json').write_text(json.dumps(dict(images=pictures, annotations=boxes, categories=classes)))
    return CONFIG.format(file=tmp_path / 'boxes.json')


def test_the_banks_get_their_size_from_the_boxes_of_the_run(coco, monkeypatch):
    assert training_set_boxes(coco) == 5
    assert training_set_boxes(None) is None
    said = []
    monkeypatch.setattr('kddense.objectives.crd.print_log', lambda text, logger: said.append(text))
    model = detectors(size=None)
    model.objectives['it'].check_run(coco, None)
    assert [len(bank.vectors) for bank in model.objectives['it'].banks] == [5, 5]
    assert said == ['CRD remembers 5 vectors of 8 numbers in each of two banks: 0 MB']
    with pytest.raises(ValueError, match='a memory bank without a data-set length'):
        detectors(size=None).objectives['it'].check_run(None, None)


def test_the_banks_get_their_size_from_the_images_of_the_run(toy_data, segmentor):
    model = build(size=None)
    plugins.at_iteration(0, config=segmentor.plain().pretty_text)
    model.init_weights()  # as a runner does, which has told its config by then
    tiny.step(model, images('a', 'b'))
    count = len(list((toy_data / 'images').iterdir()))
    assert [len(bank.vectors) for bank in model.objectives['it'].banks] == [count] * 2


@pytest.mark.parametrize('config', ['model = dict()', 'train_dataloader = dict(dataset=None)'])
def test_a_run_without_the_length_of_a_data_set_ends_in_one_sentence(config):
    model = build(size=None)
    plugins.at_iteration(0, config)
    model.init_weights()
    with pytest.raises(ValueError, match=r'^objectives.it: a memory bank without a data-set length: train by a config'):
        tiny.step(model, images('a', 'b'))


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"^objectives.it: on='box' needs boxes in the ground truth, and EncoderDecoder is no"
    ):
        build(on='box')
    with pytest.raises(ValueError, match="form must be one of 'memory', 'batch', got 'bank'"):
        build(form='bank')
    with pytest.raises(ValueError, match='others must be at least 1, got 0'):
        build(others=0)
    with pytest.raises(
        ValueError, match="^objectives.it: a memory needs to know images again: let the pipeline's last"
    ):
        tiny.step(build(), tiny.segmentation_data())
