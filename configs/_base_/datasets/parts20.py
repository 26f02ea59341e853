# LIP (https://sysuhcp.github.io/lip): data/lip/. For CIHP take data_root='data/cihp/' with
# data_prefix=dict(img='Training/Images', parts='Training/Category_ids') and 'Validation/...'.
_base_ = './dense.py'
dataset_type = 'ImageLabelFolderDataset'
labels = ('parts', 'mask')
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root='data/lip/',
        data_prefix=dict(img='TrainVal_images/train_images', parts='TrainVal_parsing_annotations/train_segmentations'),
        labels=labels,
        part_vocabulary='parts20',
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root='data/lip/',
        data_prefix=dict(img='TrainVal_images/val_images', parts='TrainVal_parsing_annotations/val_segmentations'),
        labels=labels,
        part_vocabulary='parts20',
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PartIoU', vocabulary='parts20')
test_evaluator = val_evaluator
