"""A plain module of another library as a teacher: patches of 14 pixels, tokens, published weights."""

import pytest
import torch
import torchvision
from torch import nn

from kddense.connectors import match_size
from kddense.exchange import Answer, Batch, Question
from kddense.registry import MODELS, TEACHERS

from ..helpers import plugins, tiny

STUDENT = tiny.segmentor('pspnet_r50-d8')
DATA = tiny.segmentation_data()


@MODELS.register_module()
class StrictViT(nn.Module):
    """As timm and DINOv2 make them: tokens ``(N, 1 + registers + L, C)``, and images of whole patches only."""

    def __init__(self, patch=14, dim=32, registers=0):
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.first = nn.Parameter(torch.zeros(1, 1 + registers, dim))
        self.block = nn.TransformerEncoderLayer(dim, 2, 64, batch_first=True)

    def forward(self, x):
        if x.shape[-1] % self.patch or x.shape[-2] % self.patch:
            raise AssertionError(f'images of {tuple(x.shape[-2:])} are no multiple of the patch {self.patch}')
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.block(torch.cat([self.first.expand(len(x), -1, -1), tokens], dim=1))


class Positions(nn.Module):
    """Answers the middle of each patch, in pixels, x and y."""

    def __init__(self, patch):
        super().__init__()
        self.patch = patch
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        rows, columns = (torch.arange(size // self.patch) * self.patch + self.patch / 2 for size in x.shape[-2:])
        return self.scale * torch.stack(torch.meshgrid(columns, rows, indexing='xy')).expand(len(x), -1, -1, -1)


MODELS.register_module(module=Positions)


def teacher_of(patch=14, **options):
    module = dict(type='kddense.StrictViT', patch=patch, **options.pop('module', {}))
    return dict(type='kddense.ModuleTeacher', module=module, **{'patch_size': patch, **options})


def distiller(teacher, student=STUDENT, scope='mmseg', **options):
    hint = dict(type='kddense.FeatureObjective', tap='backbone', levels=[-1], teacher_tap='', teacher_levels=[0])
    config = dict(type='kddense.Distiller', student=student, teacher=teacher, objectives=dict(hint={**hint, **options}))
    return tiny.build(config, scope=scope)


STUDENTS = {
    'pspnet': (STUDENT, 'mmseg', DATA),
    'retinanet': (tiny.single_stage('retinanet'), 'mmdet', tiny.detection_data()),
}


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('patch', [14, 16])
@pytest.mark.parametrize('student', list(STUDENTS))
def test_a_plain_module_is_a_teacher(student, patch, precision):
    config, scope, data = STUDENTS[student]
    build = lambda: distiller(teacher_of(patch, precision=precision), config, scope)  # noqa: E731
    model = build()
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, data)
    plugins.train(model, data)
    plugins.assert_contracts(model, config, scope, rebuild=build)


@pytest.mark.parametrize('registers', [0, 4])
def test_tokens_are_answered_as_the_map_of_their_patches(registers):
    model = distiller(teacher_of(16, module=dict(registers=registers)))
    teacher = model.teachers['teacher']
    batch = Batch(**model.data_preprocessor(DATA, True), image_format=model.image_format)
    answer = teacher.answer(Question(frozenset({'', 'block'})), batch)
    images, _ = teacher.images.of(batch)
    expected = teacher.model(images)[:, 1 + registers :].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(answer.taps[''], expected)
    torch.testing.assert_close(answer.taps['block'], expected)


def test_tokens_meet_maps_without_a_patch_size_too():
    """The rank is matched by the objective; without a patch size the images must be of whole patches already."""
    model = distiller(teacher_of(16, patch_size=None))
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)


def test_a_teacher_that_asserts_its_patches_needs_its_patch_size():
    with pytest.raises(
        ValueError, match='teacher .*StrictViT.* runs on no blank image of .* no multiple of the patch 14'
    ):
        distiller(teacher_of(14, patch_size=None))


# The scales of the configs that are shipped, and a quarter: most sizes are rounded, 0.4375 of 65 pixels are 28.4.
@pytest.mark.parametrize('scale', [0.25, 0.4375, 0.875, 1.0])
@pytest.mark.parametrize('patch', [14, 16])
def test_teacher_and_student_speak_of_the_same_place_at_every_size(patch, scale):
    """To a hundredth of a pixel, whichever is resized; beyond the middle of a border's cell, that cell speaks."""
    module = dict(type='kddense.Positions', patch=patch)
    options = dict(patch_size=patch, mean=[0.0] * 3, std=[1.0] * 3, input_scale=scale)
    service = TEACHERS.build(dict(type='kddense.ModuleTeacher', module=module, **options))
    for size in range(64, 641):
        batch = Batch(torch.zeros(1, 3, 64, size), tiny.segmentation_data((64, size), count=1)['data_samples'])
        seen = round(size * scale)
        theirs = service.answer(Question(frozenset({''})), batch).taps[''] * size / seen
        patches = middles_of(patch, seen) * size / seen
        for stride in (4, 8, 16, 32):
            cells = middles_of(stride, size)
            ours = cells.expand(1, 1, 64 // stride, -1)
            for resize, expected in (('teacher', cells.clamp(*patches[[0, -1]])), ('student', patches)):
                own, other = (
                    side[0, 0, 0] for side in match_size(ours, theirs, resize, image=(64, size), **service.view.cells)
                )
                found = other if resize == 'teacher' else own
                expected = expected.clamp(*cells[[0, -1]])
                assert (found - expected).abs().max() <= 0.01, (size, stride, resize)


def middles_of(cell, size):
    """Return the middles of the cells of an image, in pixels."""
    return torch.arange(-(-size // cell)) * cell + cell / 2


@pytest.mark.parametrize('size', [(64, 64), (96, 64), (64, 160), (65, 99)])
@pytest.mark.parametrize('scale', [0.875, 1.0, 2.0])
@pytest.mark.parametrize('patch', [8, 14, 16])
def test_objectives_compare_the_same_places(patch, scale, size):
    """The student's half is what the objective itself hands to its loss."""
    module = dict(type='kddense.Positions', patch=patch)
    options = dict(mean=[0.0] * 3, std=[1.0] * 3, input_scale=scale)
    teacher = dict(type='kddense.ModuleTeacher', module=module, patch_size=patch, **options)
    model = distiller(teacher, resize='teacher')
    batch = Batch(torch.zeros(1, 3, *size), tiny.segmentation_data(size, count=1)['data_samples'])
    taught = model.teachers['teacher'].answer(Question(frozenset({''})), batch)
    student = torch.zeros(1, 64, *(-(-length // 8) for length in size)).requires_grad_()
    ((_, spoken),) = model.objectives['hint'].pairs(Answer(taps={'backbone': [student]}, batch=batch), taught)
    for axis, length in enumerate(size[::-1]):
        middles = torch.arange(-(-length // 8)) * 8 + 4
        found = spoken[0, axis].movedim(1 - axis, 0)[:, 0] / scale
        cell = patch / scale
        inside = (middles >= cell / 2) & (middles <= (-(-round(length * scale) // patch) - 0.5) * cell)
        assert (found - middles)[inside].abs().max() <= 0.5


@pytest.mark.parametrize('container', ['model', 'state_dict', 'model_ema', None])
@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.'])
def test_a_published_checkpoint_loads(tmp_path, container, prefix):
    weights = StrictViT().state_dict()
    saved = {prefix + key: value for key, value in weights.items()}
    torch.save({container: saved} if container else saved, tmp_path / 'vit.pth')
    model = distiller(teacher_of(checkpoint=str(tmp_path / 'vit.pth')))
    loaded = model.teachers['teacher'].model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in weights.items())


RESNET = dict(type='torchvision.models.resnet18')
VIT = dict(
    type='torchvision.models.VisionTransformer',
    **dict(image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=32),
)


def torchvision_distiller(module, tap, **options):
    return distiller(dict(type='kddense.ModuleTeacher', module=module, **options), teacher_tap=tap)


@pytest.mark.parametrize('form', ['other classes', 'no head', 'the same', 'DDP and other classes'])
def test_heads_of_another_task_are_left_out_and_said(tmp_path, monkeypatch, form):
    """A ResNet of torchvision that was trained on 7 classes, where the module has 1000."""
    trained = torchvision.models.resnet18(num_classes=1000 if form == 'the same' else 7).state_dict()
    kept = {key: value for key, value in trained.items() if form != 'no head' or not key.startswith('fc.')}
    torch.save({f'{"module." if "DDP" in form else ""}{key}': value for key, value in kept.items()}, tmp_path / 'r.pth')
    said = []
    monkeypatch.setattr('kddense.teachers.weights.print_log', lambda text, **_: said.append(text))
    model = torchvision_distiller(RESNET, 'layer4', checkpoint=str(tmp_path / 'r.pth'))
    loaded = model.teachers['teacher'].model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in kept.items() if not key.startswith('fc.'))
    left_out = ['teacher.checkpoint: left out fc (2 keys)']
    assert [one for one in said if 'left out' in one] == ([] if form == 'the same' else left_out)
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)
    if form != 'the same':
        with pytest.raises(ValueError, match='a head that the checkpoint does not have says nothing: tap what stands'):
            torchvision_distiller(RESNET, 'fc', checkpoint=str(tmp_path / 'r.pth'))


def test_another_network_names_the_module(tmp_path):
    torch.save(torchvision.models.resnet34(num_classes=7).state_dict(), tmp_path / 'r34.pth')
    with pytest.raises(ValueError, match=r'is of another architecture than teacher.module \(ResNet\): .* unexpected'):
        torchvision_distiller(RESNET, 'layer4', checkpoint=str(tmp_path / 'r34.pth'))


def test_a_transformer_of_one_size_sees_stretched_images():
    """As the docstring has it, smaller: torchvision's takes one image size alone, and gives tokens."""
    model = torchvision_distiller(VIT, 'encoder', patch_size=16, image_size=32)
    teacher = model.teachers['teacher']
    batch = Batch(**model.data_preprocessor(DATA, True), image_format=model.image_format)
    images, _ = teacher.images.of(batch)
    assert (batch.inputs.shape[-2:], images.shape[-2:]) == ((64, 64), (32, 32))
    tokens = []
    teacher.model.encoder.register_forward_hook(lambda module, args, value: tokens.append(value))
    answer = teacher.answer(Question(frozenset({'encoder'})), batch)
    assert torch.equal(answer.taps['encoder'], tokens[0][:, 1:].transpose(1, 2).unflatten(2, (2, 2)))
    assert teacher.view.is_stretched
    assert 'backbone.layer1.0.conv1.weight' in plugins.gradients(model, DATA)
    other = torchvision_distiller(dict(VIT, image_size=48), 'encoder', patch_size=16, image_size=48)
    assert teacher.identity()['teacher'] != other.teachers['teacher'].identity()['teacher']


@pytest.mark.parametrize(
    'options, sentence',
    [
        (
            dict(image_size=40),
            'teacher.image_size must be multiples of 16 pixels, the size of a cell, got 40: take 48 or 32',
        ),
        (dict(image_size=[32]), 'teacher.image_size must be a height and a width in pixels'),
        (
            dict(image_size=32, input_scale=0.5),
            'teacher.image_size sets the size of the image: leave teacher.input_scale',
        ),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=f'^{sentence}'):
        torchvision_distiller(VIT, 'encoder', patch_size=16, **options)


def test_the_images_are_normalised_as_the_teacher_was_trained():
    model = distiller(teacher_of(16))
    teacher = model.teachers['teacher']
    seen = []
    teacher.model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    tiny.step(model, DATA)
    rgb = DATA['inputs'][0].flip(0).float()
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    torch.testing.assert_close(seen[0][0], (rgb - mean) / std, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'module, sentence',
    [
        (
            dict(type='kddense.NoSuchViT'),
            "teacher.module.type 'kddense.NoSuchViT' is neither registered nor importable",
        ),
        (dict(type='kddense.StrictViT', depth=3), 'teacher.module cannot be built: .*depth'),
        (dict(patch=14), 'teacher.module must be a dict with a `type`'),
        (dict(type='torch.zeros', size=(1,)), 'teacher.module must be an nn.Module, torch.zeros gave'),
    ],
)
def test_a_module_that_cannot_be_built_is_one_sentence(module, sentence):
    with pytest.raises(ValueError, match=sentence):
        distiller(dict(type='kddense.ModuleTeacher', module=module))
