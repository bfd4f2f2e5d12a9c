"""AKD on BCCD: widths, depths and necks of a ResNet student for the EfficientNet-Lite2 teacher of FCOS."""

config = 'kddense::takd/takd_lite2_r18-w16_fcos_fpn_bccd.py'
space = dict(
    width={
        str(width): {
            'student.backbone.base_channels': width,
            'student.neck.in_channels': [width, 2 * width, 4 * width, 8 * width],
        }
        for width in (8, 16, 24, 32)
    },
    depth={str(depth): {'student.backbone.depth': depth} for depth in (18, 34)},
    neck={
        str(channels): {
            'student.neck.out_channels': channels,
            'student.bbox_head.in_channels': channels,
            'student.bbox_head.feat_channels': channels,
        }
        for channels in (32, 64, 96)
    },
)
limit = dict(multiply_adds=1.0)
trials, steps, validations = 16, 4, 2
