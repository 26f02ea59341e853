# The last stage of sapiens_tiny_4tasks.py: one sample in twenty is a person of a photograph, with 17 points and mostly
# an outline (tools/zoo/outlines.py); see PEOPLE in tools/zoo/train.sh.
_base_ = './sapiens_tiny_4tasks.py'
own = dict(pipeline={{_base_.train_pipeline}})
renders = dict(own, type='HumanManifestDataset', sample_per='person', data_root='data/zoo/train/', cache='decoded')
outlined = dict(own, type='HumanManifestDataset', sample_per='person', data_root='data/zoo/people/', labels=['mask'])
pointed = dict(
    own, type='CocoKeypointDataset', ann_file='', data_prefix=dict(img=''), file_vocabulary='coco17', labels=[]
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            renders,
            dict(type='RepeatDataset', times=20, dataset=outlined),
            dict(type='RepeatDataset', times=8, dataset=pointed),
        ],
    )
)
