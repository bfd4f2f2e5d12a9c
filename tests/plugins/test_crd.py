"""CRD (Tian et al. 2020): two memory banks by the ids of the images, negatives drawn from them."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch.nn import functional as F

import kddense
from kddense import Objective
from kddense.configs import training_set_size
from kddense.registry import MODELS
from kddense.taps import tensors_of

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
NEGATIVES, TEMPERATURE = 3, 0.07


def data_with_ids(*ids):
    data = tiny.segmentation_data(count=len(ids))
    for sample, one in zip(data['data_samples'], ids, strict=True):
        sample.set_metainfo(dict(img_path=one))
    return data


DATA = data_with_ids('a.png', 'b.png')


@MODELS.register_module()
class CRD(Objective):
    """Pulls the two models' vectors of an image together, and those of other images apart."""

    student_taps = teacher_taps = frozenset({'backbone'})

    def __init__(self, dim=16, size=None, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.banks = nn.ModuleList(kddense.MemoryBank(dim, size, seed=seed) for seed in range(2))

    def bind(self, student, teacher):
        super().bind(student, teacher)
        views = (student, teacher)
        self.embeddings = nn.ModuleList(
            nn.Linear(v.probe(['backbone'])['backbone'][-1].shape[1], self.dim) for v in views
        )

    def check_run(self, config, checkpoint):
        for bank in self.banks:
            if not len(bank.vectors):
                bank.allocate(training_set_size(config))

    def forward(self, seen, taught):
        ids = [sample.metainfo['img_path'] for sample in seen.batch.data_samples]
        maps = [list(tensors_of(answer.taps['backbone']))[-1].mean((2, 3)) for answer in (seen, taught)]
        vectors = [F.normalize(layer(one), dim=1) for layer, one in zip(self.embeddings, maps, strict=True)]
        losses = [self.contrast(one, bank, ids) for one, bank in zip(vectors, reversed(self.banks), strict=True)]
        for bank, one in zip(self.banks, vectors, strict=True):
            bank.update(ids, one)
        return dict(loss=sum(losses))

    def contrast(self, vectors, bank, ids):
        others = torch.randint(len(bank.vectors), (len(ids), NEGATIVES))
        rows = torch.cat([bank.index(ids)[:, None], others], dim=1)
        scores = torch.einsum('nd,nkd->nk', vectors, bank.vectors[rows]) / TEMPERATURE
        return F.cross_entropy(scores, torch.zeros(len(ids), dtype=torch.long))


def build(size=4):
    objectives = dict(crd=dict(type='kddense.CRD', size=size, weight=0.8))
    return tiny.distiller(STUDENT, tiny.segmentor('pspnet_r50-d8', width=16), objectives, 'mmseg')


def test_gradients_flow_through_the_vectors_of_the_student():
    model = build()
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)
    losses = tiny.step(model, DATA)
    losses['distill.crd.loss'].backward()
    assert all(layer.weight.grad.any() for layer in model.objectives['crd'].embeddings)


def test_it_trains_under_all_contracts():
    model = build()
    first = [bank.vectors.clone() for bank in model.objectives['crd'].banks]
    plugins.train(model, DATA)
    for bank, before in zip(model.objectives['crd'].banks, first, strict=True):
        assert len(bank.ids) == 2
        assert (bank.vectors != before).any(dim=1).tolist() == [True, True, False, False]
        torch.testing.assert_close(bank.vectors.norm(dim=1), torch.ones(4))
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=build)
    plugins.assert_contracts(model, STUDENT, 'mmseg', rebuild=lambda: build(size=None))


def test_an_average_of_the_student_shares_the_banks():
    model = build()
    average = ExponentialMovingAverage(model, update_buffers=True)
    plugins.train(model, DATA)
    average.update_parameters(model)
    for own, other in zip(model.objectives['crd'].banks, average.module.objectives['crd'].banks, strict=True):
        assert own is other


def test_the_bank_gets_its_size_from_the_data_set_of_the_run(toy_data, segmentor):
    config = segmentor.plain()
    model = build(size=None)
    plugins.at_iteration(0, config=config.pretty_text)
    model.init_weights()  # as a runner does, which has told its config by then
    tiny.step(model, DATA)
    images = len(list((toy_data / 'images').iterdir()))
    assert [len(bank.vectors) for bank in model.objectives['crd'].banks] == [images] * 2


@pytest.mark.parametrize('config', [None, 'model = dict()', 'train_dataloader = dict(dataset=None)'])
def test_a_run_without_the_length_of_a_data_set_ends_in_one_sentence(config):
    model = build(size=None)
    plugins.at_iteration(0, config)
    model.init_weights()
    with pytest.raises(
        ValueError, match=r'^objectives.crd: a memory bank without a data-set length: train by a config'
    ):
        tiny.step(model, copy.deepcopy(DATA))
