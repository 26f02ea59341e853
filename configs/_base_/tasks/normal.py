# Surface normals: runtime, schedule, data and model; a leaf config adds the size.
_base_ = ['../default_runtime.py', '../schedules/finetune.py', '../datasets/normal.py', '../models/normal.py']
