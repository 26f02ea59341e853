# The second stage of sapiens_tiny_4tasks.py: half of the pixels and the cost.
_base_ = './sapiens_tiny_4tasks_128x96.py'
input_size = (192, 144)
model = dict(heads=dict(pose=dict(codec=dict(sigma=1.75))))
