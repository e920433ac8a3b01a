"""The recipe number of each stage: raised, on purpose, when a change of its code changes what the same settings mean.

The graph reruns a stage when its recipe changes; it does not look at code, so that a comment never costs a training.
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
    "neighbours": 1,
    "figure": 4,
    "tables": 3,
    "report": 5,
}
