# The same with what the packages ship, so without a download: the toolkit's tiny model finds persons and compares
# images, RapidOCR reads text. Art and watermarks need a model of the hub, or a probe fitted to examples of one's own
# (tools/curation/fit_probe.py).
_base_ = './humans.py'
local = dict(num_cpus=1, num_gpus=0, batch_size=32)

stages = dict(
    persons=dict(
        detector=dict(_delete_=True, type='TinyDetector', threshold=0.2, refine=None),
        # Of tools/curation/calibrate.py on renders of people and views of empty places; new weights need a new one.
        calibration=[[0.2, 0.1], [0.25, 0.26], [0.3, 0.4], [0.32, 0.55], [0.36, 0.74], [0.4, 0.87], [0.5, 0.98]],
        # The tiny model is seldom surer of a right box (docs/scale.md).
        reject=dict(min_score=0.5),
        gate=dict(min_score=0.2),
        resources=local,
    ),
    embedding=dict(model=dict(_delete_=True, type='SapiensEncoder'), resources=local),
    content=None,
    watermark=None,
    nsfw=None,
    text=dict(resources=local),
)
duplicates = dict(min_cosine=0.93)
