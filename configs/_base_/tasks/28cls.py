# 28 part classes: runtime, schedule, data and model; a leaf config adds the size.
_base_ = ['../default_runtime.py', '../schedules/finetune.py', '../datasets/parts28.py', '../models/seg.py']
model = dict(backbone=dict(patch_padding=0))
