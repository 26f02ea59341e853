# All four tasks on one 1B encoder, 1024 x 768 (H x W).
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
    '../_base_/datasets/all_tasks.py',
    '../_base_/models/all_tasks.py',
]
model = dict(backbone=dict(arch='1b', with_cp=True))
train_dataloader = dict(batch_size=2)
