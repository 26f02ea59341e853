# The last stage of sapiens_tiny_4tasks.py: one sample in eleven is a person of a photograph, with an outline and
# mostly 17 points (tools/zoo/outlines.py), with points alone, or cut out of a video (tools/zoo/cutouts.py).
_base_ = './sapiens_tiny_4tasks.py'
own = dict(pipeline={{_base_.train_pipeline}})
made = dict(own, type='HumanManifestDataset', sample_per='person')
renders = dict(made, data_root='data/zoo/train/', cache='decoded')
outlined = dict(made, data_root='data/zoo/people/', labels=['mask'])
pointed = dict(
    own, type='CocoKeypointDataset', ann_file='', data_prefix=dict(img=''), file_vocabulary='coco17', labels=[]
)
cutouts = dict(made, data_root='data/zoo/cutouts/', labels=['mask'])
photographs = [
    dict(type='RepeatDataset', times=times, dataset=dataset)
    for times, dataset in ((24, outlined), (8, pointed), (6, cutouts))
]
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[renders, *photographs]))
# The average is better than any of the weights, which still move a lot when the learning rate falls.
custom_hooks = {{_base_.averaged}}
