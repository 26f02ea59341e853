# 308 keypoints: runtime, schedule, data and model; a leaf config adds the size.
_base_ = ['../default_runtime.py', '../schedules/finetune.py', '../datasets/human308.py', '../models/pose.py']
