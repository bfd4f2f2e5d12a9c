"""Two label sets of BCCD, two specialised teachers, one student: teachers of their own images, and of all."""

student = 'kddense::specialists/fcos_r18-w16_fpn_two-sets_bccd.py'
distils = 'kddense::specialists/specialists_lite2_r18-w16_fcos_fpn_bccd.py'
red = dict(link='red', class_map=['RBC', None, None])
white = dict(link='white', class_map=[None, 'WBC', 'Platelets'])
seeds, plain = [0, 1, 2], 'plain'
links = dict(
    red=dict(config='kddense::specialists/fcos_lite2_fpn_red_bccd.py', seed=0),
    white=dict(config='kddense::specialists/fcos_lite2_fpn_white_bccd.py', seed=0),
    plain=dict(config=student),  # what an image does not label is background
    labels=dict(config='kddense::specialists/labels_r18-w16_fcos_fpn_two-sets_bccd.py'),
    own=dict(
        config=distils,
        teacher=dict(red=dict(red, datasets=['red']), white=dict(white, datasets=['white'])),
    ),
    all=dict(config=distils, teacher=dict(red=red, white=white)),
    longer=dict(config=student, same_time=['plain', 'all']),
)
