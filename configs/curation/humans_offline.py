# The same with what the packages ship, so without a download: the toolkit's tiny model finds persons and compares
# images, RapidOCR reads text. Art and watermarks need a model of the hub, or a probe fitted to examples of one's own
# (tools/curation/fit_probe.py).
_base_ = './humans.py'
local = dict(num_cpus=1, batch_size=16)

stages = dict(
    persons=dict(
        detector=dict(_delete_=True, type='TinyDetector', threshold=0.05),
        resources=local,
    ),
    embedding=dict(model=dict(_delete_=True, type='SapiensEncoder'), resources=local),
    content=None,
    watermark=None,
    nsfw=None,
    text=dict(resources=local),
)
