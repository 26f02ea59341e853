# Any folder of images: data/pretrain/. A list of files: ann_file='list.txt'. Tar shards, read one after another, on
# disks or in an object store (docs/scale.md): type='ShardImageDataset', shards='{000000..000127}.tar'. Validation
# watches the loss on the first 256 images (unreadable ones are skipped as in training); give it a folder of its own if
# you can.
_base_ = ['./loaders.py', '../pipelines/mae.py']
photos = dict(type='ImageFolderDataset', data_root='data/pretrain/')
train_dataloader = dict(batch_size=16, dataset=dict(**photos, pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=16, dataset=dict(**photos, indices=256, pipeline={{_base_.test_pipeline}}))
val_evaluator = dict(type='MAELoss')
