# LIP (https://sysuhcp.github.io/lip): data/lip/. For CIHP take data_root='data/cihp/' with
# data_prefix=dict(img='Training/Images', parts='Training/Category_ids') and 'Validation/...'.
_base_ = '../pipelines/parts.py'
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageLabelFolderDataset',
        data_root='data/lip/',
        data_prefix=dict(img='TrainVal_images/train_images', parts='TrainVal_parsing_annotations/train_segmentations'),
        part_vocabulary='parts20',
        input_size=(1024, 768),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageLabelFolderDataset',
        data_root='data/lip/',
        data_prefix=dict(img='TrainVal_images/val_images', parts='TrainVal_parsing_annotations/val_segmentations'),
        part_vocabulary='parts20',
        test_mode=True,
        input_size=(1024, 768),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PartIoU', vocabulary='parts20')
test_evaluator = val_evaluator
