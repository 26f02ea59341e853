# COCO 2017 (https://cocodataset.org): data/coco/{annotations,train2017,val2017}.
_base_ = '../pipelines/topdown.py'
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoKeypointDataset',
        data_root='data/coco/',
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        keypoint_vocabulary='coco17',
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
        ann_file='annotations/person_keypoints_val2017.json',
        # Boxes of a detector instead of the annotated ones: bbox_file='person_detections_val2017.json'.
        data_prefix=dict(img='val2017/'),
        keypoint_vocabulary='coco17',
        test_mode=True,
        input_size=(1024, 768),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='KeypointAP', ann_file='data/coco/annotations/person_keypoints_val2017.json', vocabulary='coco17'
)
test_evaluator = val_evaluator
