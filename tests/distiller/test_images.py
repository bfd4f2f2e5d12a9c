"""Teachers of some data sets and of some classes: which images an objective compares, over which classes."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from kddense.exchange import others_as_background

from ..helpers import detectors, plugins, tiny, transformers
from ..helpers.two_processes import in_two_processes

HINT = dict(type='kddense.FeatureObjective', tap='neck', connector=dict(type='kddense.Connector'))
FCOS = detectors.one_stage('fcos')


def batch(*names, **options):
    """Return images of data sets with these names."""
    data = tiny.detection_data(
        sizes=[(64, 64)] * len(names), boxes=[tiny.BOXES[index % 3 :] for index in range(len(names))]
    )
    for sample, name in zip(data['data_samples'], names, strict=True):
        sample.set_metainfo(dict(options, **({} if name is None else dict(dataset=name))))
    return data


def two_teachers(objective, student=FCOS, **options):
    """Return a distiller with a teacher of ``'a'`` and ``'both'``, one of ``'b'`` and ``'both'``, in eval mode."""
    wide = copy.deepcopy(student)
    teachers = {name: tiny.teacher_of(wide, datasets=[name, 'both'], **options.get(name, {})) for name in ('a', 'b')}
    objectives = {name: dict(objective, teacher=name) for name in ('a', 'b')}
    return tiny.distiller(student, teachers, objectives)


def losses_of(model, data):
    """Return the losses of a step in which norms and dropout rest, so that images do not know of each other."""
    model.student.eval()
    torch.manual_seed(0)
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


def total_of(losses, key):
    return tiny.total({key: losses[key]})


def only(data, *rows):
    return {key: [values[row] for row in rows] for key, values in data.items()}


def test_each_image_is_answered_by_its_own_teachers_and_all_count_alike():
    model = two_teachers(HINT)
    data = batch('a', 'b', 'both', 'none', 'a')
    losses = losses_of(model, data)
    alone = {'a': losses_of(model, only(data, 0, 2, 4)), 'b': losses_of(model, only(data, 1, 2))}
    torch.testing.assert_close(losses['distill.a.loss'], 3 / 5 * alone['a']['distill.a.loss'])
    torch.testing.assert_close(losses['distill.b.loss'], 2 / 5 * alone['b']['distill.b.loss'])


def test_images_of_no_teacher_give_zeros_that_reach_every_weight():
    model = two_teachers(HINT)
    losses = losses_of(model, batch('none', 'none'))
    assert losses['distill.a.loss'] == losses['distill.b.loss'] == 0
    assert losses.keys() == losses_of(model, batch('both', 'both')).keys()
    tiny.total(losses).backward()
    for objective in model.objectives.values():
        assert all(one.grad is not None and not one.grad.any() for one in objective.parameters())


def test_a_teacher_is_not_asked_about_images_of_others(monkeypatch):
    model = two_teachers(HINT)
    asked = {}
    for name, teacher in model.teachers.items():
        answer = teacher.answer
        monkeypatch.setattr(
            teacher,
            'answer',
            lambda question, batch, name=name, answer=answer: (
                asked.update({name: len(batch.inputs)}) or answer(question, batch)
            ),
        )
    losses_of(model, batch('a', 'a', 'none'))
    assert asked == {'a': 2}


def test_teachers_of_all_images_train_as_before():
    """Named or not: the same losses to the last bit, and no image need say of which data set it is."""
    named = tiny.distiller(FCOS, tiny.teacher_of(FCOS, datasets=['a']), dict(x=HINT))
    plain = tiny.distiller(FCOS, tiny.teacher_of(FCOS), dict(x=HINT))
    first, second = (losses_of(model, batch('a', 'a')) for model in (named, plain))
    assert all(torch.equal(total_of(first, key), total_of(second, key)) for key in first if 'loss' in key)
    losses_of(plain, batch(None, None))


def test_an_image_must_say_of_which_data_set_it_is():
    model = two_teachers(HINT)
    with pytest.raises(ValueError, match=r'^teacher.a.datasets: the image number 1 of the batch does not say of which'):
        losses_of(model, batch('a', None))


def in_a_run(model, *names, hook=None):
    """Let a run begin whose training images are of data sets with these names, and an unlabelled one of a hook's."""
    named = lambda name: dict(type='kddense.NamedDataset', called=name, dataset=dict(type='CocoDataset'))  # noqa: E731
    several = dict(type='ConcatDataset', datasets=[named(name) for name in names])
    config = dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=several)))
    if hook is not None:
        config['default_hooks'] = dict(more=dict(type='kddense.UnlabelledImagesHook', dataset=named(hook)))
    plugins.at_iteration(0, Config(config).pretty_text)
    model.init_weights()
    return losses_of(model, batch('a', 'b'))


def test_a_data_set_that_the_run_does_not_have_is_named():
    """Before, a name with a slip of the pen switched its teacher off, and every loss of it was 0."""
    sentence = (
        "^teacher.a.datasets: no data set of the run is called 'both'; the nearest names are 'bothe', 'b'; those "
        'in train_dataloader and in hooks are called a, b, bothe$'
    )
    with pytest.raises(ValueError, match=sentence):
        in_a_run(two_teachers(HINT), 'a', 'b', 'bothe')
    for names, hook in ((('a', 'b', 'both'), None), (('a', 'b'), 'both')):
        assert in_a_run(two_teachers(HINT), *names, hook=hook)['distill.a.loss'] > 0


# --- classes that a teacher does not know --------------------------------------------------------------------------------


def heard(model, name, data):
    """Return what an objective is given in a step, with the losses."""
    objective, kept = model.objectives[name], {}
    forward = objective.forward
    objective.forward = lambda seen, taught: kept.update(seen=seen, taught=taught) or forward(seen, taught)
    losses = losses_of(model, data)
    objective.forward = forward
    return kept['seen'], kept['taught'], losses


def test_dense_heads_are_compared_over_the_classes_that_the_teacher_knows():
    """Of the images of its data sets; the others of its images are background to it, which nobody learns."""
    maps = dict(a=dict(class_map=[None, 1, None]), b=dict(class_map=[0, None, 2]))
    model = two_teachers(dict(type='kddense.DenseHintonObjective'), **maps)
    data = batch('a', 'b', 'both')
    seen, taught, losses = heard(model, 'a', data)
    (ours,), (theirs,) = seen.opinions['dense'], taught.opinions['dense']
    assert ours.logits.shape[1] == theirs.logits.shape[1] == seen.samples['dense'][0].num_classes == 1
    student = losses_scores(model, only(data, 0, 2))
    teacher = losses_scores(model.teachers['a'].model, only(data, 0, 2), model.data_preprocessor)
    own, other = (one[:, 1].double() for one in (student, teacher))
    divergence = F.binary_cross_entropy_with_logits(own, other.sigmoid(), reduction='none')
    divergence = divergence - F.binary_cross_entropy_with_logits(other, other.sigmoid(), reduction='none')
    torch.testing.assert_close(losses['distill.a.loss'].double(), 2 / 3 * divergence.mean(), rtol=1e-4, atol=1e-7)
    grads = torch.autograd.grad(losses['distill.a.loss'], model.student.bbox_head.conv_cls.bias)[0]
    assert grads[1] != 0
    assert not grads[[0, 2]].any()


def losses_scores(model, data, preprocessor=None):
    """Return the logits of all places of images, ``(M, K)``."""
    student = getattr(model, 'student', model)
    inputs = (preprocessor or model.data_preprocessor)(copy.deepcopy(data), True)['inputs']
    levels = student.bbox_head(student.extract_feat(inputs))[0]
    return torch.cat([level.detach().permute(0, 2, 3, 1).flatten(1, 2) for level in levels], 1).flatten(0, 1)


def test_the_background_of_a_roi_head_is_that_of_the_teacher():
    """The student's class that the teacher does not know goes to its background: Cermelli et al. 2022."""
    teacher = tiny.teacher_of(tiny.faster_rcnn(width=12), class_map=[2, None, 0])
    model = tiny.distiller(tiny.faster_rcnn(), teacher, dict(x=dict(type='kddense.ChenRoIObjective')))
    seen, taught, losses = heard(model, 'x', batch('a', 'b'))
    (sample,), (ours,), (theirs,) = seen.samples['roi'], seen.opinions['roi'], taught.opinions['roi']
    assert ours.logits.shape == theirs.logits.shape == (len(sample.rois), 3)
    assert len(sample.positive) == len(sample.labels) == len(ours.deltas) == len(theirs.deltas) > 0
    assert set(sample.labels.tolist()) <= {0, 1}
    assert all(torch.isfinite(one) for name, one in losses.items() if name.startswith('distill'))


def test_others_as_background_by_hand():
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0], [0.0, 3.0, 1.0, 0.2]], dtype=torch.float64, requires_grad=True)
    absent = torch.tensor([[False, True, False], [False, False, False]])
    before, after = logits.softmax(1), others_as_background(logits, absent).softmax(1)
    torch.testing.assert_close(after[0, [0, 2]], before[0, [0, 2]])
    torch.testing.assert_close(after[0, 3], before[0, 3] + before[0, 1])
    torch.testing.assert_close(after[1], before[1])
    assert after[0, 1] == 0
    fixed = torch.autograd.grad(-after[0, 3].log(), logits)[0][0]
    share = before[0, [1, 3]] / (before[0, 1] + before[0, 3])
    expected = before[0].clone()
    expected[[1, 3]] -= share  # background is taught to the two in the shares that they have
    torch.testing.assert_close(fixed, expected.detach())


@pytest.mark.parametrize('kind', ['ChenRPN', 'PixelWise'])
def test_what_a_teacher_cannot_tell_from_the_background_is_refused(kind):
    student = tiny.faster_rcnn() if kind == 'ChenRPN' else FCOS
    options = {} if kind == 'ChenRPN' else dict(on='bbox_head')
    teacher = tiny.teacher_of(student, class_map=[0, None, 2])
    with pytest.raises(ValueError, match=r'^objectives.x: teacher.class_map leaves out classes of the student, which'):
        tiny.distiller(student, teacher, dict(x=dict(type=f'kddense.{kind}Objective', **options)))


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(datasets='a'), '^teacher.datasets must be a list'),
        (dict(datasets=[]), r'^teacher.datasets must be a list of texts or None, and not empty, got \[\]'),
        (dict(class_map=[None, None, None]), '^teacher.class_map must name each class once'),
        (
            dict(class_map=[0, None]),
            '^objectives.x: student and teacher do not speak about the same boxes: .*num_classes',
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny.distiller(FCOS, tiny.teacher_of(FCOS, **options), dict(x=dict(type='kddense.DenseHintonObjective')))


@pytest.mark.parametrize('options', [dict(datasets=['a']), dict(class_map=[0, None, 2])])
def test_members_of_an_ensemble_speak_of_all(options):
    members = [tiny.teacher_of(FCOS), tiny.teacher_of(FCOS, **options)]
    teacher = dict(type='kddense.EnsembleTeacher', members=members)
    config = dict(type='kddense.Distiller', student=FCOS, teacher=teacher, objectives=dict(x=HINT))
    with pytest.raises(ValueError, match=r'^teacher.members\[1\] must speak of all images and classes'):
        tiny.build(config)


# --- labels of some classes alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('head', detectors.HEADS)
def test_dense_heads_learn_nothing_of_classes_that_a_data_set_does_not_label(head):
    model = tiny.distiller(detectors.one_stage(head), detectors.one_stage(head), {})
    data = batch('a', 'a', labelled_classes=(0, 2))
    for sample in data['data_samples']:
        sample.gt_instances = sample.gt_instances[sample.gt_instances.labels != 1]
    found = {}
    for name in ('some', 'all'):
        losses = losses_of(model, data)
        scores = next(one for key, one in dict(model.student.bbox_head.named_modules()).items() if key in CLASSIFIERS)
        bias = torch.autograd.grad(tiny.total(losses), scores.bias)[0]
        found[name] = bias.view(-1, 3).abs().sum(0)
        for sample in data['data_samples']:
            sample.set_metainfo(dict(labelled_classes=(0, 1, 2)))
    assert found['some'][1] == 0
    assert found['all'][1] > 0
    assert (found['some'][[0, 2]] > 0).all()


CLASSIFIERS = ('retina_cls', 'conv_cls', 'atss_cls', 'gfl_cls', 'rtm_cls.0')


@pytest.mark.parametrize('detector', [tiny.faster_rcnn, tiny.cascade_rcnn])
def test_the_background_of_a_roi_head_may_be_a_class_that_is_not_labelled(detector):
    model = tiny.distiller(detector(), detector(), {})
    first, second = (losses_of(model, batch('a', 'b', **one)) for one in ({}, dict(labelled_classes=(0, 1, 2))))
    assert all(torch.equal(total_of(first, key), total_of(second, key)) for key in first if 'loss' in key)
    data = batch('a', 'b', labelled_classes=(0, 1))
    for sample in data['data_samples']:
        sample.gt_instances = sample.gt_instances[sample.gt_instances.labels != 2]
    heads = model.student.roi_head.bbox_head
    (head, *_) = heads if isinstance(heads, torch.nn.ModuleList) else [heads]
    with torch.no_grad():
        head.fc_cls.bias[2] += 50  # the student is sure that all is of the class that this data set does not label
    told = losses_of(model, data)
    for sample in data['data_samples']:
        del sample.labelled_classes
    untold = losses_of(model, data)
    key = next(one for one in told if one.endswith('loss_cls') and 'rpn' not in one)
    assert told[key] < untold[key]


def test_who_cannot_leave_classes_out_says_so():
    model = tiny.distiller(tiny.faster_rcnn({'roi_head.bbox_head.loss_cls.use_sigmoid': True}), FCOS, {})
    with pytest.raises(
        ValueError, match=r'^student \(FasterRCNN\) cannot learn from images whose data set labels some'
    ):
        losses_of(model, batch('a', labelled_classes=(0,)))


# --- images without labels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['FGD', 'DeFeat'])
def test_what_looks_at_boxes_compares_labelled_images_alone(kind):
    """An unlabelled image would else be background everywhere."""
    model = tiny.distiller(FCOS, detectors.one_stage('fcos', width=12), dict(x=dict(type=f'kddense.{kind}Objective')))
    data = batch('a', 'a', 'a')
    alone = losses_of(model, only(data, 0, 2))
    data['data_samples'][1].set_metainfo(dict(unlabelled=True))
    losses = losses_of(model, data)
    for key in filter(lambda key: key.startswith('distill'), alone):
        torch.testing.assert_close(losses[key], alone[key])
    for sample in data['data_samples']:
        sample.set_metainfo(dict(unlabelled=True))
    losses = losses_of(model, data)
    assert all(losses[key] == 0 for key in alone if key.startswith('distill'))
    tiny.total(losses).backward()
    assert all(one.grad is not None for one in model.objectives.parameters())


@pytest.mark.parametrize('start', [0, 100])
def test_what_heads_do_not_show_without_labels_is_refused_by_name(start):
    """From the first batch on, also of an objective that begins later."""
    detr = transformers.detr('dab')
    objective = dict(type='kddense.DETRDistillObjective', weight=dict(value=1, start=start))
    model = tiny.distiller(detr, detr, dict(queries=objective))
    with pytest.raises(
        ValueError, match=r'^objectives.queries: student \(DABDETR\) has no decoder of queries of unlabelled images'
    ):
        losses_of(model, batch('a', 'a', unlabelled=True))


def test_processes_whose_images_are_of_other_data_sets(tmp_path):
    """One has images of a alone, the other of b: nobody waits for ever, and all weights have their gradient."""
    model = two_teachers(dict(type='kddense.DeFeatObjective'))

    def step(rank):
        losses = losses_of(model, batch(*[('a', 'b')[rank]] * 2))
        tiny.total(losses).backward()
        assert all(one.grad is not None for one in model.objectives.parameters())
        return {key: value.detach() for key, value in losses.items() if key.startswith('distill')}

    first, second = in_two_processes(step, tmp_path)
    assert first['distill.a.loss_foreground'] > 0
    assert first['distill.b.loss_foreground'] == second['distill.a.loss_foreground'] == 0
    assert second['distill.b.loss_foreground'] > 0
