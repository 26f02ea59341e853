# The first stage of sapiens_small_4tasks.py: a quarter of the pixels, a quarter of the cost.
_base_ = './sapiens_small_4tasks.py'
input_size = (192, 144)
model = dict(heads=dict(pose=dict(codec=dict(sigma=2.0))))
# The second stage goes on from here, so the learning rate does not fall to 0.
default_hooks = dict(budget=dict(final=0.25))
