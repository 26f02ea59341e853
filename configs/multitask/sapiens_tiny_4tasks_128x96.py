# The first stage of sapiens_tiny_4tasks.py: a quarter of the pixels and the cost.
_base_ = './sapiens_tiny_4tasks.py'
input_size = (128, 96)
model = dict(heads=dict(pose=dict(codec=dict(sigma=1.5))))
# The next stage goes on from here, so the learning rate does not fall to 0.
default_hooks = dict(budget=dict(final=0.25))
