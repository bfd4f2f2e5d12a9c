"""A teacher of a type of one's own: it keeps what it answered, image by image, and is asked only once."""

import copy
from dataclasses import replace

import pytest
import torch

from kddense import FrozenTeacher
from kddense.exchange import Answer
from kddense.registry import TEACHERS

from ..helpers import plugins, tiny

STUDENT, TEACHER = tiny.segmentor('pspnet_r50-d8'), tiny.segmentor('pspnet_r50-d8', width=16)
OBJECTIVES = {
    'taps': dict(type='kddense.FeatureObjective', tap='decode_head', loss=dict(type='kddense.HintonLoss')),
    'pyramid': dict(type='kddense.FeatureObjective', tap='backbone'),
    'kinds': dict(type='kddense.CWDObjective'),
    'auxiliary': dict(type='kddense.PixelWiseObjective', on='auxiliary_head'),
}


@TEACHERS.register_module()
class RememberingTeacher(FrozenTeacher):
    """Writes each image's answer to a folder; what it says of the student's samples cannot be kept."""

    def __init__(self, folder, name='teacher', **kwargs):
        super().__init__(name=name, **kwargs)
        self.folder = folder
        self.asked = 0

    def answer(self, question, batch):
        if question.samples:
            return super().answer(question, batch)
        what = '+'.join(sorted(question.taps | question.opinions)).replace('.', '-')
        files = [self.folder / f'{what} {sample.metainfo["img_id"]}.pt' for sample in batch.data_samples]
        if not all(file.exists() for file in files):
            self.asked += 1
            answer = replace(super().answer(question, batch), teacher=None)
            for file, one in zip(files, answer.cut(len(files)), strict=True):
                torch.save(copy.deepcopy(one), file)
        return replace(Answer.join([torch.load(file, weights_only=False) for file in files]), teacher=self)


def batches():
    for first in range(2):
        data = tiny.segmentation_data(count=4)
        data = {key: values[first::2] for key, values in data.items()}
        for number, sample in enumerate(data['data_samples']):
            sample.set_metainfo(dict(img_id=first + 2 * number))
        yield data


def train(objective, **teacher):
    teacher = {**tiny.teacher_of(TEACHER, 'mmseg'), **teacher}
    config = dict(type='kddense.Distiller', student=STUDENT, teacher=teacher, objectives=dict(x=objective))
    model = tiny.build(config, scope='mmseg')
    tiny.shake(model.teachers['teacher'].model)
    torch.manual_seed(0)
    logs = [log for _ in range(2) for data in batches() for log in plugins.train(model, data, steps=1)]
    return model, logs


@pytest.mark.parametrize('objective', list(OBJECTIVES))
def test_a_cache_changes_nothing(objective, tmp_path):
    _, plain = train(OBJECTIVES[objective])
    cache = dict(type='kddense.RememberingTeacher', folder=tmp_path)
    model, cached = train(OBJECTIVES[objective], **cache)
    assert isinstance(model.teachers['teacher'], RememberingTeacher)
    assert model.teachers['teacher'].asked == 2
    assert len(list(tmp_path.iterdir())) == 4
    assert cached == plain
    again, logs = train(OBJECTIVES[objective], **cache)
    assert again.teachers['teacher'].asked == 0
    assert logs == plain
    plugins.assert_contracts(model, STUDENT, 'mmseg')


def test_what_is_said_of_samples_is_asked_each_time(tmp_path):
    teacher = dict(tiny.teacher_of(tiny.faster_rcnn(width=16)), type='kddense.RememberingTeacher', folder=tmp_path)
    objectives = dict(rpn=dict(type='kddense.ChenRPNObjective'), hint=dict(type='kddense.HintObjective'))
    config = dict(type='kddense.Distiller', student=tiny.faster_rcnn(), teacher=teacher, objectives=objectives)
    model = tiny.build(config)
    plugins.train(model, tiny.detection_data(), steps=2)
    assert not list(tmp_path.iterdir())


def test_an_unknown_type_names_the_nearest():
    teacher = dict(type='kddense.RememberingTeachr', folder='.')
    with pytest.raises(
        ValueError, match="teacher.type: there is no teacher 'kddense.RememberingTeachr'; the nearest names"
    ):
        tiny.build(dict(type='kddense.Distiller', student=STUDENT, teacher=teacher, objectives={}), scope='mmseg')
    with pytest.raises(ValueError, match="teacher has no key 'foldr', only .*folder"):
        train(OBJECTIVES['taps'], type='kddense.RememberingTeacher', folder='.', foldr='.')
