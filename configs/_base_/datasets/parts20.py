# LIP (https://sysuhcp.github.io/lip): data/lip/. For CIHP take data_root='data/cihp/' with
# data_prefix=dict(img='Training/Images', parts='Training/Category_ids') and 'Validation/...'.
_base_ = './dense.py'
vocabulary = 'parts20'
lip = dict(type='ImageLabelFolderDataset', data_root='data/lip/', labels=('parts', 'mask'))
train_dataloader = dict(
    dataset=dict(
        **lip,
        data_prefix=dict(img='TrainVal_images/train_images', parts='TrainVal_parsing_annotations/train_segmentations'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        **lip,
        data_prefix=dict(img='TrainVal_images/val_images', parts='TrainVal_parsing_annotations/val_segmentations'),
    ),
)
val_evaluator = dict(type='PartIoU')
