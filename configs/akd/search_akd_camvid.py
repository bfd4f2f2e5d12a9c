"""AKD on CamVid: widths, depths and necks of a ResNet student for an EfficientNet-Lite2, at most 0.6 G multiply-adds."""

config = 'kddense::hinton/hinton_lite2_r18-w16_fpn_camvid.py'
space = dict(
    width={
        str(width): {
            'student.backbone.base_channels': width,
            'student.backbone.stem_channels': width,
            'student.neck.in_channels': [width, 2 * width, 4 * width, 8 * width],
        }
        for width in (8, 16, 24, 32)
    },
    depth={str(depth): {'student.backbone.depth': depth} for depth in (18, 34)},
    neck={
        str(channels): {
            'student.neck.out_channels': channels,
            'student.decode_head.in_channels': [channels] * 4,
            'student.decode_head.channels': channels,
        }
        for channels in (16, 32, 64)
    },
)
limit = dict(multiply_adds=0.6)
trials, steps, validations = 16, 150, 3
