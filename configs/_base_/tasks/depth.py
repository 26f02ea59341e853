# Relative depth: runtime, schedule, data and model; a leaf config adds the size.
_base_ = ['../default_runtime.py', '../schedules/finetune.py', '../datasets/depth.py', '../models/depth.py']
