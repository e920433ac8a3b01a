"""Training images of which there are k + 1 equal copies have a ball of radius zero: `neighbours` divides by it."""

import json

from situation import TMP, call, images, picture, verdict

source = TMP / "photographs"
source.mkdir()
for i in range(240):
    (source / f"{i:03d}.jpg").write_bytes(picture(i % 30))
prepared = images({"kind": "folder", "path": str(source)}, heldout=80)
train, heldout = prepared.out / "train.manifest.json", prepared.out / "heldout.manifest.json"
extractor = {"kind": "trained", "id": "cnn64", "labels": "rotations", "steps": 5, "batch": 8}
weights, reference = prepared.out / "w.safetensors", prepared.out / "ref" / "fd.safetensors"
call(
    "lct.jobs.extractor",
    "--settings",
    json.dumps({"recipe": 1, "extractor": extractor}),
    "--train",
    train,
    "--heldout",
    heldout,
    "--out",
    weights,
    "--summary",
    prepared.out / "s.json",
)
scoring = {
    "recipe": 1,
    "extractors": [extractor],
    "protocols": [{"id": "fd", "num_images": 64, "k": 3, "batch": 64}],
    "own_extractor": "cnn64",
    "flips": "none",
    "shown": 64,
    "nearest": 3,
}
reference.parent.mkdir()
call(
    "lct.jobs.reference",
    "--settings",
    json.dumps(scoring),
    "--train",
    train,
    "--reconstructed-train",
    train,
    "--extractors",
    weights,
    "--references",
    reference,
    "--floors",
    "--cache",
    prepared.out / "cache",
)
# the samples of a generator that copies: the held-out copies of training images
samples = prepared.out / "run" / "s0" / "w" / "one"
samples.mkdir(parents=True)
result = call(
    "lct.jobs.neighbours",
    "--settings",
    json.dumps(scoring),
    "--samples",
    heldout,
    "--train",
    train,
    "--reference",
    reference,
    "--extractor",
    weights,
    "--numbers",
    prepared.out / "n.json",
    "--pictures",
    prepared.out / "n.png",
)
verdict(result.returncode == 0, "neighbours on a training set with duplicates: " + result.stdout.strip()[-200:])
