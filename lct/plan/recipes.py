"""The recipe number of each stage: raised, on purpose, when a change of its code changes what the same settings mean.

The graph reruns a stage when its recipe changes; it does not look at code, so that a comment never costs a training.
Losses, which users add, are the exception: lct.plan.code.
"""

RECIPES = {
    "download": 1,
    "images": 1,
    "autoencoder": 1,
    "encode": 2,
    "extractor": 1,
    "train": 2,
    "sample": 1,
    "score": 3,
    "score of wide features": 4,  # in place of `score` for datasets with an extractor of WIDE_FEATURES or more: last
    # digits of the Frechet distance by Cholesky factors
    "degraded": 1,
    "neighbours": 1,
    "figure": 4,
    "pilot": 1,
    "tables": 3,
    "report": 5,
}
