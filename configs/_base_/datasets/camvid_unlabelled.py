"""CamVid's training images without their labels, as many as labelled ones in a batch: for `default_hooks.unlabelled`."""

images = dict(type='BaseSegDataset', data_root='data/camvid/', data_prefix=dict(img_path='images/train'))
unlabelled = dict(type='kddense.UnlabelledImagesHook', ratio=1, dataset=images)
