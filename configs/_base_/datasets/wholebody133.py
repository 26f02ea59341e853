# COCO-WholeBody 1.0 (https://github.com/jin-s13/COCO-WholeBody) beside COCO's photos: data/coco/.
_base_ = '../pipelines/topdown.py'
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoKeypointDataset',
        data_root='data/coco/',
        ann_file='annotations/coco_wholebody_train_v1.0.json',
        data_prefix=dict(img='train2017/'),
        keypoint_vocabulary='wholebody133',
        input_size=(1024, 768),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoKeypointDataset',
        data_root='data/coco/',
        ann_file='annotations/coco_wholebody_val_v1.0.json',
        # Boxes of a detector instead of the annotated ones: bbox_file='person_detections_val2017.json'.
        data_prefix=dict(img='val2017/'),
        keypoint_vocabulary='wholebody133',
        test_mode=True,
        input_size=(1024, 768),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='KeypointAP', ann_file='data/coco/annotations/coco_wholebody_val_v1.0.json', vocabulary='wholebody133'
)
test_evaluator = val_evaluator
