# COCO-WholeBody 1.0 (https://github.com/jin-s13/COCO-WholeBody) beside COCO's photos: data/coco/.
_base_ = './coco17.py'
vocabulary = 'wholebody133'
train_dataloader = dict(dataset=dict(ann_file='annotations/coco_wholebody_train_v1.0.json'))
val_dataloader = dict(dataset=dict(ann_file='annotations/coco_wholebody_val_v1.0.json'))
