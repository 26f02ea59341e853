# 133 COCO-WholeBody keypoints, tiny encoder, 256 x 192 (H x W).
_base_ = ['../_base_/tasks/133kpt.py', '../_base_/tiny.py']
input_size = (256, 192)
model = dict(backbone=_base_.tiny.backbone, heads=dict(pose=_base_.tiny.pose_head))
optim_wrapper = _base_.tiny.optim_wrapper
