"""Augmentation of uint8 batches on the device, one draw an image. Drawing (a CPU generator) is apart from applying (any device).

Legend of the package: B batch rows, L labelled rows of a batch, H and W image height and width in pixels, O output positions
of a resampling and K the source positions that one of them reads, R erased rectangles of an image, P parameters of a view.
"""
