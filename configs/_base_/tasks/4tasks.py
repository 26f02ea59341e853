# All four tasks on one encoder: runtime, schedule, data and model; a leaf config adds the size.
_base_ = ['../default_runtime.py', '../schedules/finetune.py', '../datasets/all_tasks.py', '../models/all_tasks.py']
