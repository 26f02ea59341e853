# COCO 2017 (https://cocodataset.org): data/coco/{annotations,train2017,val2017}.
_base_ = ['./loaders.py', '../pipelines/topdown.py']
vocabulary = 'coco17'
coco = dict(type='CocoKeypointDataset', data_root='data/coco/')
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        **coco,
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        **coco,
        ann_file='annotations/person_keypoints_val2017.json',
        # Boxes of a detector instead of the annotated ones: bbox_file='person_detections_val2017.json'.
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
val_evaluator = dict(type='KeypointAP')  # against the data set's ann_file
