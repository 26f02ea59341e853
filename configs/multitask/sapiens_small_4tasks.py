# All four tasks on the small encoder, 384 x 288 (H x W): 23 M parameters, for a GPU or a patient CPU.
_base_ = './sapiens_tiny_4tasks.py'
input_size = (384, 288)
model = dict(
    backbone=dict(arch='small'),
    neck=dict(channels=(192, 128)),
    heads=dict(pose=dict(codec=dict(sigma=3.0))),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
