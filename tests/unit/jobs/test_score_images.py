"""Images made elsewhere: read as they are, or refused in one line."""

import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from lct.cluster.cost_model import CostModel
from lct.cluster.rates import CORE
from lct.config.model import GivenSamples
from lct.config.schema import plain
from lct.data.imageset import ImageSet
from lct.data.readers import open_images
from lct.files import local_source
from lct.files.atomic import read_json
from lct.files.records import disagreements
from lct.jobs.image_sets import write_set
from lct.jobs.score_images import score_images
from lct.jobs.take_samples import take_samples
from lct.plan import files as stage_files
from lct.plan import listing
from lct.plan.listing import facts
from lct.plan.plan import Plan
from lct.plan.settings import of_file, planned
from lct.report.collect import collect
from tests.helpers import ROOT

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def places(tmp_path):
    """The same images as a folder, a zip, an npz and an npy file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    np.savez(tmp_path / "images.npz", PIXELS, np.arange(6))  # with labels, as samplers of others write them
    np.save(tmp_path / "images.npy", PIXELS)
    return [folder, *(tmp_path / f"images.{kind}" for kind in ("zip", "npz", "npy"))]


def test_a_folder_a_zip_and_arrays_give_the_same_set(places, tmp_path):
    contents = [write_set(tmp_path / "out.zip", open_images(place, 8, 5).images)["content_sha256"] for place in places]
    assert len(set(contents)) == 1
    with ImageSet(tmp_path / "out.zip") as images:
        assert np.array_equal(images.array(), PIXELS[:5])


def damaged(folder):
    content = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(content[: len(content) // 2])


def other_size(folder):
    Image.fromarray(PIXELS[0]).resize((9, 8)).save(folder / "2.png")


def first_of_other_size(folder):
    Image.fromarray(PIXELS[0]).resize((9, 8)).save(folder / "0.png")


def first_cut_off(folder):
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:10])


@pytest.mark.parametrize(
    ("change", "count", "message"),
    [
        (damaged, 6, r"folder: 2\.png: expected a whole still image"),
        (other_size, 6, r"folder: 2\.png: expected 8 x 8 pixels, as the real images have, found 9 x 8"),
        (lambda folder: (folder / "5.png").unlink(), 6, r"folder: expected 6 images, .* protocol says, found 5; make"),
        (first_of_other_size, 7, r"found 6 of 9 x 8 pixels, not of 8 x 8; make more"),
        (first_cut_off, 7, r"found 6; make more"),
        (
            lambda folder: [path.unlink() for path in folder.iterdir()],
            6,
            r"folder: expected images .*found none; correct the source",
        ),
    ],
)
def test_a_folder_that_cannot_be_measured_ends_in_one_line(places, change, count, message):
    change(places[0])
    with pytest.raises(ValueError, match=message) as caught:
        list(open_images(places[0], 8, count).images)
    assert "\n" not in str(caught.value)


def test_an_array_that_cannot_be_measured_ends_in_one_line(places, tmp_path):
    for place in places[2:]:
        with pytest.raises(ValueError, match=r"expected 7 images, as the protocol says, found 6"):
            list(open_images(place, 8, 7).images)
        with pytest.raises(ValueError, match=r"expected 4 x 4 pixels, .* found 8 x 8"):
            list(open_images(place, 4, 6).images)
        with pytest.raises(ValueError, match=r"expected 7 images, .* found 6 of 8 x 8 pixels, not of 4 x 4; make more"):
            open_images(place, 4, 7)
        place.write_bytes(place.read_bytes()[:200])
        with pytest.raises(ValueError, match=r"expected a whole np[yz] file, found "):
            list(open_images(place, 8, 6).images)
    np.save(tmp_path / "floats.npy", PIXELS / 255)
    with pytest.raises(ValueError, match=r"expected one array \(N, H, W, 3\) of uint8, found float64"):
        list(open_images(tmp_path / "floats.npy", 8, 6).images)
    with pytest.raises(ValueError, match=r"nothing: expected a folder, zip, tar, npz or npy of images, found nothing"):
        list(open_images(tmp_path / "nothing", 8, 6).images)


def test_without_references_the_command_that_makes_them_is_named(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"snakemake results/smoke/features/reference/digits/.* --config scale=smoke"):
        score_images(Plan(ROOT, {"scale": "smoke"}), "digits", places[0])


def settings_of(path):
    """Of the job that takes 5 images of 8 x 8 pixels from `path`."""
    run = GivenSamples(path=str(path))
    return {"recipe": 1, "source": plain(run.source), "images": 5, "resolution": 8, "grid_images": 4}


def test_samples_made_elsewhere_are_taken_with_their_names_and_a_changed_file_outdates_them(places, tmp_path):
    sets = []
    for place in places:
        out = tmp_path / f"results/{place.name}/s0/given/given/d0.zip"
        line = take_samples(settings_of(place), out)
        not_taken = ", not taken: 1 array 'arr_1'" if place.suffix == ".npz" else ""
        assert line.startswith(f"take {place.name}: 5 images of {place}, the first of 6{not_taken}, sha256 ")
        content, record = read_json(out.with_name("d0.manifest.json")), read_json(out.with_name("d0.zip.settings.json"))
        assert record["stage"] == "take" and record["source"]["path"] == str(place) and record["inputs"] == {}
        assert content.get("not_taken") == ({"array 'arr_1'": 1} if place.suffix == ".npz" else None)
        assert content["count"] == 5 and out.with_name("d0.grid.png").exists()
        sets.append((content["content_sha256"], [item["source"] for item in content["items"]]))
        assert disagreements([str(out)], settings_of(place), tmp_path) == []
        if place.is_dir():
            Image.fromarray(PIXELS[0]).save(place / "0b.png")
        else:
            place.write_bytes(place.read_bytes() + b" ")
        local_source.look_again()
        assert "the source" in disagreements([str(out)], settings_of(place), tmp_path)[0]
    assert len({pixels for pixels, _ in sets}) == 1
    assert sets[0][1] == sets[1][1] == [f"{i}.png" for i in range(5)] and sets[2][1][4] == "images.npz 4"


def test_samples_that_cannot_be_taken_leave_no_set(places, tmp_path):
    other_size(places[0])
    with pytest.raises(ValueError, match="expected 8 x 8 pixels"):
        take_samples(settings_of(places[0]), tmp_path / "s0/given/given/d0.zip")
    assert list((tmp_path / "s0").rglob("d0*")) == []


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def declare(project, entry):
    (project / "config/runs/public.yaml").write_text(f"public: {entry}\n")
    return Plan(project, {"scale": "smoke", "own_runs": ["public"]})


def test_a_run_of_given_samples_is_scored_like_any_other_and_neither_trained_nor_sampled(project):
    plan = declare(project, "{dataset: digits, samples: {path: p.npz, nfe: 2}, note: in print}")
    (cell,) = [cell for cell in plan.cells if cell.run == "public"]
    assert cell.name == "own-runs.a.public-given" and plan.seeds_of("public") == (0,)
    metrics = stage_files.metrics(plan, "public", 0)
    assert metrics[0] == "results/smoke/metrics/public/s0/given/given/d0/fd-train.json"
    assert set(metrics) <= set(stage_files.report_metrics(plan))
    assert not any("/train/public" in path for path in stage_files.report_inputs(plan))
    configured = planned(plan)
    assert of_file(configured, "take", stage_files.samples(plan, "public", 0)[0]) == configured("take", "public")
    assert configured("take", "public")["images"] == 64 and configured("train", "public") is None
    assert configured("tables", "tables")["runs"]["public"] == {
        "samples": {"path": "p.npz", "nfe": 2},
        "note": "in print",
        "sources": {f"samples.{key}": "config/runs/public.yaml: public" for key in ("path", "nfe")},
    }
    stages = {job.stage for job in CostModel(plan, CORE).needed([cell])}
    assert "train" not in stages and {"sample", "score", "reference"} <= stages
    facts_of = facts(plan.runs["public"], plan.datasets["digits"], "smoke")
    assert facts_of["images"] == "p.npz (no training, no sampling)" and facts_of["samplers"] == {"given": "2 NFE"}
    assert any("1 x images made elsewhere, 1 sets of" in line for line in listing.dry_run_lines(plan))
    row = next(r for t in collect(plan, project).tables for s in t.subtables for r in s.rows if r.run == "public")
    assert (row.nfe, row.batch, row.steps, row.weights_files, row.status) == (2, None, None, (), "not run")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{dataset: digits, method: lct, samples: {path: p}}",
            r"public: samples: expected dataset, and at most note, .*'method'",
        ),
        ("{base: digits-lct, samples: {path: p}}", r"public: samples: expected dataset, and at most note, .*'base'"),
        ("{samples: {path: p}}", r"public: samples: expected dataset, and at most note, beside them, found \[\]"),
        ("{dataset: digits, samples: {path: p, nfe: 0}}", r"public: samples: nfe: expected 1 or more, found 0"),
        ("{dataset: digits, samples: {path: ''}}", r"public: samples: path: expected a folder or file of images alone"),
        ("{dataset: digits, samples: {path: ..}}", r"public: samples: path: .* found '..', which is the project's own"),
        ("{dataset: digits, samples: {}}", r"public: samples: expected key 'path'"),
        (
            "{dataset: digits, samples: {path: p}}\nmore: {base: public}",
            r"more: base: expected a run with a method, found 'public', images made elsewhere",
        ),
    ],
)
def test_entries_that_are_no_given_samples_end_in_one_line(project, entry, message):
    with pytest.raises(ValueError, match=message) as caught:
        declare(project, entry)
        Plan(project, {"scale": "smoke", "own_runs": ["more"]})
    assert "\n" not in str(caught.value)
