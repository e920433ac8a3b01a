"""The reference and score jobs: several protocols at once, the cache of measurements, floors, JPEG, semantics.

Every network is a small TorchScript file that a download's record names, as at paper scale."""

import copy
import functools
import hashlib
import io
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import linalg
from torch.nn import functional as F

from lct.config.schema import plain
from lct.data.imageset import write_imageset
from lct.files.atomic import write_json
from lct.files.hashing import sha256_file
from lct.files.records import mismatch
from lct.jobs import degraded, distance, neighbours, reference, score
from lct.metrics import features as pixels
from lct.metrics.settings import DEGRADATIONS, PretrainedExtractor, Protocol, TrainedExtractor

NETWORKS = {
    name: PretrainedExtractor(
        id=name, architecture="torchscript", weights=name, file="net.pt", features=size, resize="own", dtype=dtype
    )
    for name, size, dtype in (("first", 6, "float32"), ("second", 9, "float16"), ("third", 5, "float32"))
}
AUTHORS = Protocol(
    id="authors",
    distance="first",
    recall="second",
    num_images=48,
    jpeg_quality=75,
    reference_jpeg_quality=75,
    recall_generated=40,
    recall_reference=50,
    dtype="float16",
    batch=16,
)
STANDARD = Protocol(id="standard", distance="third", recall="first", num_images=40, dtype="float32", batch=16)


class Colours(torch.nn.Module):
    """Averages over a grid of blocks, weighted: enough to tell image sets apart."""

    def __init__(self, size: int, seed: int):
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(12, size, generator=draws))

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(img.to(torch.float32) / 64, [2, 2]).flatten(1)
        return x @ self.weight if return_features else x


@functools.cache
def scripted(size: int, seed: int) -> bytes:
    """A TorchScript file."""
    with io.BytesIO() as file:
        torch.jit.save(torch.jit.script(Colours(size, seed)), file)
        return file.getvalue()


def pictures(count, seed, spread=1.0):
    """Noisy fields of a colour each."""
    draws = np.random.default_rng(seed)
    colours = 128 + spread * draws.normal(0, 40, (count, 2, 2, 3))
    fields = np.kron(colours, np.ones((1, 8, 8, 1))) + draws.normal(0, 12, (count, 16, 16, 3))
    return fields.clip(0, 255).astype(np.uint8)


class Place:
    """A folder with image sets and networks, in which the two jobs run."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.more = ()  # arguments of every job
        monkeypatch.chdir(folder)
        self.settings = {
            "recipe": 2,
            "protocols": plain((AUTHORS, STANDARD)),
            "extractors": [plain(NETWORKS[name]) for name in ("first", "second", "third")],
            "own_extractor": "cnn64",
            "flips": "none",
        }
        for i, (name, network) in enumerate(NETWORKS.items()):
            file = folder / "resources" / name / "files" / network.file
            file.parent.mkdir(parents=True)
            file.write_bytes(scripted(network.features, i))
            entry = {"path": network.file, "url": "http://127.0.0.1/x", "bytes": file.stat().st_size}
            entry |= {"sha256": sha256_file(file), "verified": "declared"}
            write_json(
                folder / f"resources/{name}/download.json",
                {"format": 1, "id": name, "origin": {}, "alternative": 0, "files": [entry]},
            )
        self.sets = {"train": pictures(120, 0), "heldout": pictures(60, 1)}
        self.sets |= {f"reconstructed-{side}": self.blurred(self.sets[side]) for side in ("train", "heldout")}
        for name, images in self.sets.items():
            self.write(name, images)

    @staticmethod
    def blurred(images):
        return ((images.astype(int) + np.roll(images, 1, 1)) // 2).astype(np.uint8)

    def write(self, name, images):
        """An image set with its manifest."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{name}.manifest.json", write_imageset(self.folder / f"{name}.zip", images))

    def sample(self, name, images):
        """The same where generated images lie."""
        self.write(f"run/s0/w/{name}/d0", images)

    def run(self, module, *words, code=0):
        """A job in this process, which has to end with this exit code: its last line."""
        words = ["x", "--settings", json.dumps(self.settings), "--device", "cpu", *self.more, *map(str, words)]
        words += ["--extractors", *(f"resources/{e['id']}/download.json" for e in self.settings["extractors"])]
        self.monkeypatch.setattr(sys, "argv", words)
        ended = module.main()
        line = self.capsys.readouterr().out.splitlines()[-1]
        assert ended == code, line
        return line

    def reference(self, out="out", cache="cache", heldout=True, code=0):
        names = [p["id"] for p in self.settings["protocols"]]
        floors = ["heldout", "reconstruction"] if heldout else ["reconstruction"]
        words = ["--train", "train.manifest.json", "--reconstructed-train", "reconstructed-train.manifest.json"]
        words += ["--heldout", *(["heldout.manifest.json"] if heldout else [])]
        words += ["--reconstructed-heldout", *(["reconstructed-heldout.manifest.json"] if heldout else [])]
        words += ["--references", *(f"{out}/ref/{name}.safetensors" for name in names), "--cache", cache]
        words += ["--floors", *(f"{out}/{floor}/{name}.json" for floor in floors for name in names)]
        return self.run(reference, *words, code=code)

    def score(self, *sets, out="out", keep=True, code=0):
        names = [p["id"] for p in self.settings["protocols"]]
        views = ("first-jpeg75", "second-jpeg75", "third", "first")
        words = ["--samples", *(f"run/s0/w/{one}/d0.manifest.json" for one in sets)]
        words += ["--features", *(f"{out}/{one}/{view}.safetensors" for one in sets for view in views if keep)]
        words += ["--metrics", *(f"{out}/{one}/{name}.json" for one in sets for name in names)]
        words += ["--references", *(f"{out}/ref/{name}.safetensors" for name in names)]
        return self.run(score, *words, code=code)

    def distance(self, *sets, code=0):
        """Of the first protocol."""
        first, *_ = (whole := self.settings)["protocols"]
        networks = [e for e in whole["extractors"] if e["id"] == first["distance"]]
        words = ["--samples", *(f"run/s0/w/{each}/d0.manifest.json" for each in sets), "--cache", "cache"]
        words += ["--train", "train.manifest.json", "--distances", *(f"early/{each}.json" for each in sets)]
        words += ["--heldout", *(["heldout.manifest.json"] if first["reference"] == "all" else [])]
        self.settings = whole | {"protocols": [first], "extractors": networks}
        try:
            return self.run(distance, *words, code=code)
        finally:
            self.settings = whole

    def values(self, name):
        return json.loads((self.folder / name).read_text())


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    return Place(tmp_path, monkeypatch, capsys)


def through_jpeg(images, folder):
    """By files of Pillow's own default quality, as the authors wrote theirs."""
    made = []
    for image in images:
        Image.fromarray(image).save(folder / "one.jpg")
        made.append(np.asarray(Image.open(folder / "one.jpg")))
    return np.stack(made)


def features_by_hand(images, name):
    model = Colours(NETWORKS[name].features, list(NETWORKS).index(name))
    return model(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), return_features=True).detach()


def frechet_by_hand(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    first, second = np.cov(a.T), np.cov(b.T)
    cross = linalg.sqrtm(first @ second).real.trace()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + first.trace() + second.trace() - 2 * cross


def test_every_protocol_is_computed_from_its_own_images_and_networks(place):
    place.reference()
    generated = pictures(50, 2, spread=0.8)
    place.sample("a", generated)
    assert place.score("a").startswith("score run s0: a FD(first) ")
    authors, standard = (place.values(f"out/a/{name}.json") for name in ("authors", "standard"))
    train = place.sets["train"]
    jpegs = {name: through_jpeg(images, place.folder) for name, images in (("a", generated), ("train", train))}
    expected = frechet_by_hand(features_by_hand(jpegs["a"][:48], "first"), features_by_hand(jpegs["train"], "first"))
    assert authors["values"]["fd"] == pytest.approx(expected, rel=1e-4) and authors["num_images"] == 48
    expected = frechet_by_hand(features_by_hand(generated[:40], "third"), features_by_hand(train, "third"))
    assert standard["values"]["fd"] == pytest.approx(expected, rel=1e-4) and standard["num_images"] == 40
    blurred = features_by_hand(place.sets["reconstructed-train"], "third")
    expected = frechet_by_hand(features_by_hand(generated[:40], "third"), blurred)
    assert standard["values"]["fdr"] == pytest.approx(expected, rel=1e-4)
    judged = features_by_hand(jpegs["a"][:40], "second").half(), features_by_hand(jpegs["train"][:50], "second").half()
    radius = torch.cdist(judged[0], judged[0]).float().kthvalue(4).values.half()
    recall = (torch.cdist(judged[1], judged[0]) <= radius).any(1).double().mean().item()
    assert authors["values"]["recall"] == pytest.approx(recall, abs=0.021)  # one of 50 may tie
    assert authors["protocol"]["recall"]["generated"] == 40 and authors["protocol"]["recall"]["reference"] == 50
    assert authors["protocol"]["generated"]["format"] == "JPEG 75" and authors["protocol"]["reference"]["count"] == 120
    assert standard["protocol"]["generated"]["format"] == "PNG"
    assert authors["protocol_hash"] != standard["protocol_hash"] and authors["values"]["confidence"] is None
    kept = load_file(place.folder / "out/a/second-jpeg75.safetensors")["features"]
    assert kept.dtype == torch.float16 and kept.shape == (48, 9)
    assert not (place.folder / "out/a/second.safetensors").exists()


@pytest.mark.parametrize(("compared", "flips"), [("train", "none"), ("train", "appended"), ("all", "none")])
def test_the_pilots_distance_is_that_of_the_score_and_real_images_are_measured_once(place, compared, flips):
    place.settings["protocols"][0]["reference"], place.settings["flips"] = compared, flips
    for number, each in enumerate("ab"):
        place.sample(each, pictures(50 + number, 2 + number))
    assert place.distance("a", "b").startswith("distance run s0: a FD(first) "), "before any reference"
    assert "1 of 6 measurements of real images from the cache" in place.reference()
    place.score("a", "b")
    for each in "ab":
        early, whole = place.values(f"early/{each}.json"), place.values(f"out/{each}/authors.json")
        assert early["values"] == {"fd": whole["values"]["fd"]} and early["num_images"] == whole["num_images"] == 48
    place.sample("c", pictures(47, 4))
    assert "expected 48 images, as the protocol says, found 47" in place.distance("c", code=1)


@pytest.mark.parametrize(("side", "flips"), [("heldout", "none"), ("train", "appended")])
def test_damaged_images_are_scored_as_generated_ones_are(place, side, flips):
    place.settings |= {"flips": flips, "side": side, "degradations": plain(DEGRADATIONS)}
    place.reference()
    references = [f"out/ref/{protocol['id']}.safetensors" for protocol in place.settings["protocols"]]
    words = ["--images", f"{side}.manifest.json", "--out", "out/mine.json", "--references", *references]
    assert place.run(degraded, *words).startswith("degraded mine: 4 degradations of 48 images measured")
    content = place.values("out/mine.json")
    assert (content["side"], content["count"], content["rows"].keys()) == (side, 48, DEGRADATIONS.keys())
    train = features_by_hand(place.sets["train"][: 60 if flips == "appended" else 120], "third")
    for name, degradation in DEGRADATIONS.items():
        images = [pixels.degraded(image, degradation, i) for i, image in enumerate(place.sets[side][:40])]
        expected = frechet_by_hand(features_by_hand(np.stack(images), "third"), train)
        assert content["rows"][name]["values"]["standard"]["fd"] == pytest.approx(expected, rel=1e-4), name
    side_pixels = place.sets["train"].shape[1]
    assert content["rows"]["blur-strong"]["text"] == f"Gaussian blur, {side_pixels / 8:g} pixels"


@pytest.mark.slow
def test_features_and_metrics_are_the_same_for_any_number_of_processes(place):
    place.sample("good", pictures(60, 7))
    place.reference()
    place.score("good")
    place.more = ("--workers", "2")
    place.reference(out="two", cache="another-cache")
    place.score("good", out="two")

    def made(folder):
        files = [path for path in (place.folder / folder).rglob("*") if path.suffix in (".json", ".safetensors")]
        return {
            str(path.relative_to(place.folder / folder)): path.read_bytes()
            for path in files
            if not path.name.endswith((".run.json", ".settings.json"))
        }

    found = made("out")
    assert len(found) == 2 + 4 + 4 + 2 and made("two") == found
    place.more = ("--workers", "0")
    assert "--workers: expected 1 or more, found 0" in place.score("good", code=1)


class Killed(BaseException):
    """In the place of kill -9: nothing of the job catches it."""


def test_a_killed_scoring_goes_on_from_the_last_whole_set_to_the_same_files(place, monkeypatch):
    place.reference()
    for number, name in enumerate(("a", "b", "c")):
        place.sample(name, pictures(48, number + 5))
    place.reference(out="undisturbed")
    place.score("a", "b", "c", out="undisturbed")
    files = [path.relative_to(place.folder / "undisturbed") for path in (place.folder / "undisturbed").rglob("*.json")]
    files = [path for path in files if path.parts[0] in "abc" and "run.json" not in path.name]
    calls, scorer = {"features": 0, "evaluate": 0}, score.Scorer

    class Counting(scorer):
        last = 4  # evaluations: two sets of two protocols

        def features(self, *words, **more):
            calls["features"] += 1
            return super().features(*words, **more)

        def evaluate(self, *words):
            if calls["evaluate"] == self.last:
                raise Killed
            calls["evaluate"] += 1
            return super().evaluate(*words)

    monkeypatch.setattr(score, "Scorer", Counting)
    with pytest.raises(Killed):
        place.score("a", "b", "c")
    assert calls == {"features": 3, "evaluate": 4}
    for name in ("a", "b", "c"):
        shutil.rmtree(place.folder / "out" / name, ignore_errors=True)  # as Snakemake does before it starts a job again
    Counting.last = None
    place.score("a", "b", "c")
    assert calls == {"features": 3, "evaluate": 6}, "features of the third set were kept, too"
    for path in files:
        ours, theirs = (json.loads((place.folder / of / path).read_text()) for of in ("out", "undisturbed"))
        assert without_paths(ours) == without_paths(theirs)
    assert len(files) == 3 * (2 + 2 + 4) and not list(place.folder.rglob(".*.work/*.json"))


def without_paths(content):
    """A file's content without the places of its inputs."""
    for entry in content.get("inputs", {}).values():
        del entry["path"]
    return content


def test_a_collapsed_generator_is_precise_and_recalls_little(place):
    place.reference()
    draws = np.random.default_rng(3)
    one = np.repeat(place.sets["train"][7:8], 50, 0).astype(int) + draws.integers(-3, 4, (50, 16, 16, 3))
    place.sample("collapsed", one.clip(0, 255).astype(np.uint8))
    place.sample("like-train", pictures(50, 4))
    place.sample("scattered", pictures(50, 5, spread=3.0))
    place.score("collapsed", "like-train", "scattered", keep=False)
    for name in ("authors", "standard"):
        collapsed, good, scattered = (
            place.values(f"out/{one}/{name}.json")["values"] for one in ("collapsed", "like-train", "scattered")
        )
        assert collapsed["precision"] > 0.9 and collapsed["recall"] < 0.1
        assert good["precision"] > 0.5 and good["recall"] > 0.5
        assert scattered["precision"] < good["precision"]
        assert good["fd"] < min(collapsed["fd"], scattered["fd"])
    assert not list((place.folder / "out/collapsed").glob("*.safetensors"))  # features were not asked for


def test_measurements_of_real_images_are_taken_from_the_cache_and_equal(place):
    first = place.reference("one")
    again = place.reference("two")
    assert "from the cache" not in first and "6 of 6 measurements of real images from the cache" in again
    for name in ("ref/authors.safetensors", "ref/standard.safetensors", "heldout/authors.json"):
        assert (place.folder / "one" / name).read_bytes() == (place.folder / "two" / name).read_bytes()


def test_a_hit_needs_no_network_and_another_setting_is_no_hit(place, monkeypatch):
    place.reference("one")
    place.settings["protocols"][1] |= {"k": 5, "num_images": 30}  # neither changes what is measured of real images
    assert "6 of 6" in place.reference("two")
    place.settings["protocols"][1]["reference_jpeg_quality"] = 90
    assert "3 of 6" in place.reference("three")
    place.settings["protocols"][1]["reference_jpeg_quality"] = None
    place.write("train", place.sets["train"][:100])
    assert "2 of 6" in place.reference("four")  # the reconstructions are the same


@pytest.mark.parametrize("damage", ["flip", "cut", "no hash", "wrong hash"])
def test_a_damaged_cache_entry_is_measured_again(place, damage):
    place.reference("one")
    entry = sorted((place.folder / "cache").glob("*.safetensors"))[0]
    whole = entry.read_bytes()
    if damage == "flip":
        entry.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif damage == "cut":
        entry.write_bytes(whole[: len(whole) // 2])
    elif damage == "no hash":
        entry.with_suffix(".json").unlink()
    else:
        entry.with_suffix(".json").write_text('{"sha256": ')
    assert "5 of 6 measurements" in place.reference("two")
    assert entry.read_bytes() == whole and "6 of 6" in place.reference("three")
    for name in ("authors", "standard"):
        found = {(place.folder / out / f"ref/{name}.safetensors").read_bytes() for out in ("one", "two", "three")}
        assert len(found) == 1


def test_mirror_images_are_no_part_of_the_reference(place):
    place.reference("plain")
    train = place.sets["train"]
    place.write("train", np.concatenate([train, train[:, :, ::-1]]))
    place.settings["flips"] = "appended"
    place.reference("mirrored", cache="other")
    for name in ("authors", "standard"):
        a, b = (load_file(place.folder / out / f"ref/{name}.safetensors") for out in ("plain", "mirrored"))
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert place.values("mirrored/heldout/authors.json")["protocol"]["reference"]["count"] == 120
    place.settings["flips"] = "none"
    place.reference("all", cache="other")
    assert place.values("all/heldout/authors.json")["protocol"]["reference"]["count"] == 240


def test_a_reference_of_all_images_adds_the_held_out_ones(place):
    for protocol in place.settings["protocols"]:
        protocol["reference"] = "all"
    place.reference()
    described = place.values("out/reconstruction/standard.json")["protocol"]["reference"]
    assert described["count"] == 180 and [side["name"] for side in described["sets"]] == ["train", "heldout"]
    both = torch.cat([features_by_hand(place.sets[side], "third") for side in ("train", "heldout")]).double()
    found = load_file(place.folder / "out/ref/standard.safetensors")
    torch.testing.assert_close(found["real.mu"], both.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["real.sigma"], both.T.cov(), rtol=1e-5, atol=1e-6)
    assert found["recall.features"].shape == (180, 6) and found["recall.radii"].shape == (180,)


def test_floor_rows_take_what_there_is_and_say_how_much(place):
    place.write("heldout", place.sets["heldout"][:30])
    place.reference()
    floor = place.values("out/heldout/authors.json")
    assert floor["num_images"] == 30 and floor["protocol"]["generated"]["count"] == 30 and floor["images"] == "heldout"
    assert place.values("out/reconstruction/authors.json")["images"] == "reconstructed-heldout"
    place.settings["few"] = True  # fewer held out than generated
    place.reference("few")
    few, same = place.values("few/heldout/authors.json"), place.values("few/reconstruction/authors.json")
    assert few["values"] == floor["values"] and same["images"] == "reconstructed-train" and same["num_images"] == 48
    assert 0 < few["training"]["fd"] != floor["values"]["fd"] and "training" not in floor
    place.reference("none", heldout=False)
    assert place.values("none/reconstruction/authors.json")["images"] == "reconstructed-train"
    assert place.values("none/reconstruction/authors.json")["num_images"] == 48
    assert not (place.folder / "none/heldout").exists()


def test_bad_weights_and_too_few_images_end_in_one_line(place):
    place.reference()
    place.sample("few", pictures(20, 6))
    line = place.score("few", code=1)
    assert "few/d0.manifest.json: expected 48 images, as the protocol says, found 20" in line
    file = place.folder / "resources/second/files/net.pt"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    line = place.reference("again", cache="other", code=1)
    assert "net.pt: expected sha256" in line and "nothing of them was loaded" in line
    place.settings["extractors"][1]["file"] = "other.pt"
    line = place.reference("again", cache="other", code=1)
    assert "download.json: expected a file 'other.pt', found ['net.pt']" in line
    assert not (place.folder / "again").exists()


def test_clean_fids_second_opinion_can_be_left_out_and_is_no_part_of_the_protocol(place):
    place.reference()
    place.sample("a", pictures(50, 2))
    place.score("a")
    both = place.values("out/a/authors.json")
    assert both["values"]["fd_cleanfid"] == pytest.approx(both["values"]["fd"], rel=1e-6)
    place.settings["protocols"][0]["second_opinion"] = False
    place.score("a")
    one = place.values("out/a/authors.json")
    assert one["values"] == both["values"] | {"fd_cleanfid": None} and one["protocol_hash"] == both["protocol_hash"]


def test_bfloat16_products_move_numbers_a_little_and_are_part_of_the_protocol(place):
    place.reference()
    place.sample("a", pictures(50, 2))
    place.score("a")
    exact = place.values("out/a/standard.json")
    for protocol in place.settings["protocols"]:
        protocol["products"] = "bfloat16"
    place.reference()
    place.score("a")
    found = place.values("out/a/standard.json")
    assert found["values"]["fd"] != exact["values"]["fd"]
    assert found["values"]["fd"] == pytest.approx(exact["values"]["fd"], rel=0.05)
    assert found["protocol_hash"] != exact["protocol_hash"]
    assert found["protocol"]["distance"]["dtype"] == "bfloat16 network, float32 features"


def test_settings_files_hold_every_input(place):
    place.reference()
    place.sample("a", pictures(50, 2))
    place.score("a")
    found = place.values("out/a/authors.json.settings.json")["inputs"]
    assert sorted(found) == [
        *("extractor-first", "extractor-second", "extractor-third"),
        *("reference-authors", "reference-standard", "samples"),
    ]
    assert (
        found["samples"]["sha256"]
        == hashlib.sha256((place.folder / "run/s0/w/a/d0.manifest.json").read_bytes()).hexdigest()
    )


def test_the_datasets_own_extractor_needs_no_download(place, tmp_path):
    from safetensors.torch import save_file

    from lct.metrics import extractor

    own = TrainedExtractor(id="cnn8", labels="rotations", channels=(4, 6), features=8)
    save_file(extractor.create(own, classes=4).state_dict(), tmp_path / "cnn8.safetensors")
    settings = copy.deepcopy(place.settings)
    settings |= {"extractors": [plain(own)], "own_extractor": "cnn8"}
    settings["protocols"] = [plain(Protocol(id="fd-train", num_images=40, batch=16))]
    words = ["x", "--settings", json.dumps(settings), "--device", "cpu", "--extractors", "cnn8.safetensors"]
    words += ["--train", "train.manifest.json", "--reconstructed-train", "reconstructed-train.manifest.json"]
    words += ["--references", "own/ref/fd-train.safetensors", "--floors", "own/reconstruction/fd-train.json"]
    place.monkeypatch.setattr(sys, "argv", words)
    assert reference.main() == 0
    found = place.values("own/reconstruction/fd-train.json")
    assert found["protocol"]["distance"]["task"].startswith("rotations") and 0.25 <= found["values"]["confidence"] <= 1
    assert len(load_file("own/ref/fd-train.safetensors")["recall.features"]) == 120
    assert len(list((place.folder / "work/reference").glob("*.safetensors"))) == 2  # training images, reconstructions


# --- nearest training images --------------------------------------------------------------------------------------
def test_nearest_training_images_are_those_of_the_features_of_recall_and_a_copy_is_found(place):
    place.reference()
    generated = pictures(10, 5)
    generated[2] = place.sets["train"][77]
    place.sample("a", generated)
    settings = place.settings | {"protocols": plain((AUTHORS,)), "extractors": [plain(NETWORKS["second"])]}
    settings |= {"recipe": 1, "shown": 4, "nearest": 3}
    words = ["x", "--settings", json.dumps(settings), "--device", "cpu", "--samples", "run/s0/w/a/d0.manifest.json"]
    words += ["--train", "train.manifest.json", "--reference", "out/ref/authors.safetensors"]
    words += ["--extractor", "resources/second/download.json", "--numbers", "near.json", "--pictures", "near.png"]
    place.monkeypatch.setattr(sys, "argv", words)
    assert neighbours.main() == 0, place.capsys.readouterr().out
    found = place.values("near.json")
    real = features_by_hand(through_jpeg(place.sets["train"], place.folder), "second").half().double().numpy()[:50]
    made = features_by_hand(through_jpeg(generated, place.folder), "second").half().double().numpy()[:4]
    distances = np.sqrt(((made[:, None] - real[None]) ** 2).sum(2))
    among = np.sort(np.sqrt(((real[:, None] - real[None]) ** 2).sum(2)), axis=1)[:, AUTHORS.k]  # zero is itself
    assert found["reference"] == 50 and found["extractor"] == "second" and len(found["images"]) == 4
    for i, one in enumerate(found["images"]):
        order = np.argsort(distances[i], kind="stable")[:3]
        for near, index in zip(one["neighbours"], order, strict=True):
            assert near["distance"] == pytest.approx(distances[i][near["image"]], rel=1e-3, abs=1e-6)
            assert near["distance"] == pytest.approx(distances[i][index], rel=1e-3, abs=1e-6)
            assert near["radius"] == pytest.approx(among[near["image"]], rel=2e-2)
            assert near["same pixels"] == np.array_equal(generated[i], place.sets["train"][near["image"]])
    with Image.open(place.folder / "near.png") as picture:
        assert picture.size == (4 * (48 + 1) + 1, 4 * (48 + 1) + 1)
    assert mismatch(place.folder / "near.json") is None and mismatch(place.folder / "near.png") is None


def test_a_copy_of_a_training_image_is_at_distance_zero_with_the_same_pixels(place):
    place.reference()
    place.sample("a", place.sets["train"][[7, 30]])
    settings = place.settings | {"protocols": plain((AUTHORS,)), "extractors": [plain(NETWORKS["second"])]}
    words = ["x", "--settings", json.dumps(settings | {"shown": 8, "nearest": 1}), "--device", "cpu"]
    words += ["--samples", "run/s0/w/a/d0.manifest.json", "--train", "train.manifest.json", "--pictures", "near.png"]
    words += ["--reference", "out/ref/authors.safetensors", "--extractor", "resources/second/download.json"]
    place.monkeypatch.setattr(sys, "argv", [*words, "--numbers", "near.json"])
    assert neighbours.main() == 0
    near = [one["neighbours"][0] for one in place.values("near.json")["images"]]
    assert [(one["image"], one["distance"], one["same pixels"]) for one in near] == [(7, 0.0, True), (30, 0.0, True)]
