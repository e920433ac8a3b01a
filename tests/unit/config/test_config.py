"""lct/config: strict YAML, layers with sources, schemas, the plan."""

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Discriminator

from lct.config.folder import ConfigFolder, Layer
from lct.config.folder import load_yaml as load
from lct.config.resolve import merge, run_settings, scale_settings
from lct.config.schema import Name, build, check_layer, field_comments, plain, schema
from lct.plan import files as stage_files
from lct.plan import listing
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan
from tests.helpers import ROOT


@dataclass(frozen=True, kw_only=True)
class Circle:
    kind: Literal["circle"] = "circle"  # tag
    radius: float = 1.0  # metres


@dataclass(frozen=True, kw_only=True)
class Square:
    kind: Literal["square"] = "square"  # tag
    side: int = 1  # pixels


@dataclass(frozen=True, kw_only=True)
class Example:
    name: str  # what it is called
    shape: Annotated[Circle | Square, Discriminator("kind")] = field(default_factory=Circle)  # outline
    sizes: tuple[int, ...] = ()  # several
    pair: tuple[int, int] = (1, 2)  # exactly two
    maybe: float | None = None  # or nothing
    many: dict[Name, Circle] = field(default_factory=dict)  # by name

    def __post_init__(self):
        if self.maybe == 13:
            raise ValueError("maybe: expected a lucky number, found 13; change it")


def test_values_become_settings_and_back():
    values = {"name": "x", "shape": {"kind": "square", "side": 3}, "sizes": [1, 2], "many": {"a": {"radius": 2}}}
    made = build(Example, values, "here")
    assert made == Example(name="x", shape=Square(side=3), sizes=(1, 2), many={"a": Circle(radius=2.0)})
    assert isinstance(made.many["a"].radius, float)
    assert build(Example, plain(made), "again") == made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "nmae": 1}, r"here: unknown key 'nmae', expected some of \[.*\]; did you mean 'name'\?"),
        ({}, r"here: expected key 'name', found only \[\]; add it"),
        ({"name": 3}, r"here: name: expected string, found 3 \(int\)"),
        ({"name": "x", "maybe": "1e-4"}, r"here: maybe: expected number or null, found '1e-4' \(str\).*1\.0e-4"),
        ({"name": "x", "maybe": math.inf}, r"here: maybe: expected a finite number, found inf; fix the value"),
        ({"name": "x", "maybe": math.nan}, r"here: maybe: expected a finite number, found nan; fix the value"),
        ({"name": "x", "sizes": ["1e3"]}, r"here: sizes\.0: expected integer, found '1e3' .*as a whole number"),
        ({"name": "x", "sizes": [1e3]}, r"here: sizes\.0: expected integer, found 1000\.0 .*as a whole number"),
        ({"name": "x", "sizes": [1, True]}, r"here: sizes\.1: expected integer, found True"),
        ({"name": "x", "sizes": [1.5]}, r"here: sizes\.0: expected integer, found 1\.5"),
        ({"name": "x", "pair": [1]}, r"here: pair: expected 2 items, found \[1\]"),
        ({"name": "x", "shape": {"kind": "hexagon"}}, r"here: shape\.kind: expected one of \['circle', 'square'\]"),
        ({"name": "x", "shape": {"kind": "square", "radius": 1}}, r"here: shape: unknown key 'radius'"),
        ({"name": "x", "many": {"Bad Name": {}}}, r"here: many\.Bad Name: expected a name of a-z, 0-9, _ and -"),
        (
            {"name": "x", "many": {"-x": {}}},
            r"here: many\.-x: expected a name of a-z, 0-9, _ and - only, no - in front",
        ),
        ({"name": "x", "maybe": 13}, r"here: maybe: expected a lucky number"),
    ],
)
def test_bad_values_end_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(Example, values, "here")
    assert "\n" not in str(caught.value)


def test_a_layer_may_be_partial_but_not_wrong():
    check_layer(Example, {"maybe": 2.0}, "layer")
    with pytest.raises(ValueError, match="unknown key"):
        check_layer(Example, {"other": 2.0}, "layer")


def test_comments_become_descriptions():
    assert field_comments(Example)["sizes"] == "several"
    assert schema(Example)["properties"]["name"] == {"description": "what it is called", "type": "string"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", r"x\.yaml:2:1: expected YAML, found: key 'a' is given twice"),
        ("a: {<<: {b: 1}, c: 2, c: 3}\n", r"x\.yaml:1:23: expected YAML, found: key 'c' is given twice"),
        ("a: 0100\n", r"x\.yaml:1:4: expected YAML, found: 0100, which YAML takes for an octal number"),
        ("a: [1:30]\n", r"x\.yaml:1:5: expected YAML, found: 1:30, which .*: write it in decimal; fix that line"),
        ("a: 1:30.5\n", r"x\.yaml:1:4: expected YAML, found: 1:30\.5, which"),
        ("a: [1\n", r"x\.yaml:\d+:\d+: expected YAML, found"),
        ("- 1\n", r"x\.yaml: expected `key: value` lines, found list"),
        ("a: !!python/object:os.system 1\n", r"x\.yaml:1:4: expected YAML, found"),
    ],
)
def test_bad_yaml_is_placed(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.yaml")


@pytest.mark.parametrize("text", ["\ufeffa: {b: ü}\n", "a:\r\n  b: ü\r\n", "%YAML 1.2\n---\na: {b: ü}\n"])
def test_yaml_of_other_editors_is_read(tmp_path, text):
    (tmp_path / "x.yaml").write_bytes(text.encode())
    assert load(tmp_path / "x.yaml") == {"a": {"b": "ü"}}


def test_anchors_and_merge_keys_are_read_and_numbers_in_decimal(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\ne: [0, -7, 0.5, 1_0, 0x1f, .5e+1]\n")
    content = load(tmp_path / "x.yaml")
    assert content["d"] == {"b": 1, "c": 3} and content["e"] == [0, -7, 0.5, 10, 31, 5.0]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml: expected a YAML file, found nothing"):
        load(tmp_path / "none.yaml")


def test_later_layers_win_and_sources_say_so():
    values, sources = merge([Layer("one", {"a": {"b": 1, "c": 2}}), Layer("two", {"a": {"c": 3}})])
    assert values == {"a": {"b": 1, "c": 3}}
    assert sources == {"a.b": "one", "a.c": "two"}


def test_a_changed_kind_replaces_the_whole_value():
    values, sources = merge([Layer("one", {"source": {"kind": "x", "p": 1}}), Layer("two", {"source": {"kind": "y"}})])
    assert values == {"source": {"kind": "y"}}
    assert sources == {"source.kind": "two"}


def test_a_kind_that_is_no_tag_replaces_only_itself():
    values, _ = merge(
        [
            Layer("one", {"learning_rate": {"kind": "cosine", "lr": 1e-3}}),
            Layer("two", {"learning_rate": {"kind": "constant"}}),
        ]
    )
    assert values == {"learning_rate": {"kind": "constant", "lr": 1e-3}}


def test_sources_of_a_resolved_run():
    config = ConfigFolder(ROOT)
    _, mini = scale_settings(config, "mini")
    run = run_settings(config, "digits-lct", mini)
    assert run.sources["objective.loss"] == "config/methods/lct.yaml"
    assert run.sources["network.channels"] == "config/scales/mini.yaml"
    assert run.sources["network.block_norm"] == "config/methods/lct.yaml"
    assert run.sources["optimiser.beta2"] == "default"
    assert run.training.network.channels == 32 and run.training.objective.loss == "cauchy"
    assert run.training.curriculum.s1 == 160 and run.training.curriculum.s0 == 10


@pytest.fixture
def project(tmp_path):
    """A copy of the configuration that a test may damage."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))


def test_the_mini_plan_answers_every_retrained_row_of_table_1(project):
    plan = Plan(project)
    assert plan.scale_name == "mini"
    cells = [cell for cell in plan.cells if cell.table == "table1"]
    assert {(cell.subtable, cell.row) for cell in cells} == {
        (subtable, row) for subtable in "abc" for row in ("ldm-8", "ilct-1", "ilct-2", "lct-1", "lct-2")
    }
    assert all(len(cell.sets) == (2 if cell.subtable == "a" else 1) for cell in cells)


def test_one_training_serves_one_and_two_steps(project):
    plan = Plan(project)
    one, two = (next(c for c in plan.cells if c.id("fd") == f"table1.a.lct-{nfe}.fd") for nfe in (1, 2))
    assert one.run == two.run and one.weights == two.weights and one.sampler != two.sampler
    assert plan.runs[one.run].samplers[one.sampler].nfe == 1
    assert plan.runs[two.run].samplers[two.sampler].nfe == 2


def test_paths_follow_the_grammar(project):
    plan = Plan(project, {"scale": "smoke"})
    steps = plan.runs["digits-lct"].training.steps
    sets = stage_files.samples(plan, "digits-lct", 0)
    assert f"results/smoke/sample/digits-lct/s0/step{steps}-ema0.9/one/d0.zip" in sets
    assert (
        len(sets)
        == len(stage_files.metrics(plan, "digits-lct", 0))
        == len(stage_files.features(plan, "digits-lct", 0))
        == 2
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("config.yaml", "scale: mini", "scale: huge", r"expected a scale of \[.*'mini'.*\], found 'huge'"),
        (
            "config.yaml",
            "scale: mini",
            "scael: mini",
            r"config/config\.yaml: unknown key 'scael'.*did you mean 'scale'",
        ),
        ("config.yaml", "scale: mini", "scale: 3", r"config/config\.yaml: scale: expected string, found 3"),
        (
            "scales/mini.yaml",
            "a: digits",
            "a: digitz",
            r"mini\.yaml: subtables\.a: expected a dataset of .*found 'digitz'",
        ),
        (
            "scales/mini.yaml",
            "tables: [table1, ablation-f]",
            "tables: [table9]",
            r"mini\.yaml: tables: expected a table .*'table9'",
        ),
        ("scales/mini.yaml", "batch: 64", "bacth: 64", r"mini\.yaml: training: unknown key 'bacth'"),
        ("scales/mini.yaml", "ilct: {cur", "ilkt: {cur", r"mini\.yaml: methods: expected a method of .*found 'ilkt'"),
        ("scales/mini.yaml", "flower: [0]}", "flowers: [0]}", r"mini\.yaml: seeds: expected .* dataset 'flower'"),
        ("scales/mini.yaml", "digits: [0, 1]", "digits: [0, 0]", r"seeds\.digits: expected different seeds.*\[0, 0\]"),
        ("scales/mini.yaml", "digits: [0, 1]", "digits: []", r"seeds\.digits: expected different seeds.*found \[\]"),
        ("scales/mini.yaml", "draws: [0]", "draws: [0, 0]", r"draws: expected different seeds"),
        (
            "scales/mini.yaml",
            "{num_images: 2000, b",
            "{num_images: 500, b",
            r"protocols\.fd-train: num_images: expected at most the 500 images",
        ),
        ("scales/mini.yaml", "c: flower", "z: flower", r"subtables: expected letters of .*found 'z'"),
        ("scales/mini.yaml", "k: 3}]", "k: 3}, {id: fd-train}]", r"mini\.yaml: protocols: expected .* different ids"),
        ("scales/mini.yaml", "k: 3}]", "k: 3}, {id: b, batch: 9}]", r"protocols: expected one `batch` for all"),
        (
            "scales/mini.yaml",
            "k: 3}]",
            "k: 3, distance: vgg}]",
            r"protocols\.fd-train: expected a.* extractor of .*'vgg'",
        ),
        ("scales/mini.yaml", "distance: FD", "distance: FID", r"distance: expected another name than FID.*cnn64"),
        ("datasets/digits.yaml", "resolution: 16", "resolutoin: 16", r"digits\.yaml: unknown key 'resolutoin'"),
        ("tables/table1.yaml", "title: ", "title: [1] #", r"table1\.yaml: title: expected string"),
        ("runs/digits.yaml", "method: lct", "method: ict", r"digits-lct: method: expected a method of .*found 'ict'"),
        ("runs/digits.yaml", "digits-lct:", "'../x':", r"digits\.yaml: expected run names of a-z.*found '\.\./x'"),
        ("runs/digits.yaml", "digits-lct:", "-x:", r"digits\.yaml: expected run names of a-z.*found '-x'"),
        ("runs/digits.yaml", "digits-lct:", '"x\\n":', r"digits\.yaml: expected run names of a-z.*found 'x\\n'"),
        ("runs/digits.yaml", "digits-lct:", "all:", r"digits\.yaml: run name 'all' is taken by a folder or target"),
        ("runs/digits.yaml", "digits-lct:", "encode:", r"digits\.yaml: run name 'encode' is taken by"),
        ("tables/table1.yaml", '-lct"', '-lcd"', r"table1\.yaml: rows\.lct-1: expected a run .*'digits-lcd'"),
        ("runs/digits.yaml", "method: ilct", "method: lct", r"'digits-ilct' and 'digits-lct' equal at scale 'mini'"),
        ("methods/lct.yaml", "loss: cauchy", "loss: cauhcy", r"lct\.yaml: training\.objective\.loss: expected one of"),
        ("methods/lct.yaml", "threshold: 0.75", "threshold: 1.75", r"threshold: expected r from 0 to 1, found 1\.75"),
        ("methods/lct.yaml", "s0: 10", "s0: 1000", r"expected 1 <= s0 <= s1, found s0=1000"),
        ("methods/lct.yaml", "group: 128", "group: 1", r"transport\.group: expected 2 or more, found 1"),
        ("methods/lct.yaml", "middle_indices: [440]", "middle_indices: [640]", r"middle_indices: .*inside the grid"),
        ("scales/mini.yaml", "steps: 3200", "steps: 3", r"expected at least 5 steps, one per stage"),
        ("scales/mini.yaml", "emas: [0.99,", "emas: [1.99,", r"emas .*expected different rates in \[0, 1\)"),
        (
            "tables/table1.yaml",
            "mini: one, smoke: one",
            "mini: two, smoke: one",
            r"sampler: expected one of .*found 'two'",
        ),
        ("published/table1.yaml", "fid: 7.27", "fid: -7.27", r"expected fid >= 0, found -7\.27"),
    ],
)
def test_bad_configuration_ends_in_one_line_before_the_graph(project, file, old, new, message):
    edit(project / "config" / file, old, new)
    with pytest.raises(ValueError, match=message) as caught:
        Plan(project)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_on_the_command_line_is_refused(project):
    with pytest.raises(ValueError, match=r"--config: unknown key 'sacle'.*did you mean 'scale'"):
        Plan(project, {"sacle": "mini"})


def test_a_dataset_of_ones_own_needs_one_file(project):
    (project / "config/datasets/mine.yaml").write_text(
        "title: my photographs\nsource: {kind: folder, path: photographs}\nresolution: 32\nheldout: 64\n"
    )
    plan = Plan(project, {"scale": "smoke", "dataset": "mine"})
    assert {cell.run for cell in plan.cells} == {"mine-ldm", "mine-ilct", "mine-lct"}
    assert list(plan.tables) == ["own"] and list(plan.datasets) == ["mine"] and listing.left_out(plan, "tables") == []
    assert plan.paths.report("index.html") == "reports/smoke/dataset-mine/index.html"
    assert not plan.scale.comparable and all(row.fid is None for row in plan.published["own"].rows_of("a").values())
    usual = Plan(project, {"scale": "smoke"})
    assert "mine" not in usual.datasets and "own" not in [left["id"] for left in listing.left_out(usual, "tables")]
    with pytest.raises(ValueError, match="expected a dataset of .*'mien'.*config/datasets/mien.yaml"):
        Plan(project, {"scale": "smoke", "dataset": "mien"})
    with pytest.raises(ValueError, match=r"expected a dataset of .*found '\.\./mine\\n'; did you mean 'mine'\?$"):
        Plan(project, {"scale": "smoke", "dataset": "../mine\n"})


def of_ones_own(project, name="mine", scale="smoke", **values):
    """The plan of a dataset of one's own, whose file gives `values` too."""
    source = values.pop("source", "{kind: folder, path: photographs}")
    lines = ["title: t", f"source: {source}", "resolution: 16", *(f"{key}: {value}" for key, value in values.items())]
    (project / f"config/datasets/{name}.yaml").write_text("\n".join(lines) + "\n")
    return Plan(project, {"scale": scale, "dataset": name})


def test_counts_that_cannot_work_are_refused_with_the_file_that_sets_them(project):
    small = "{kind: folder, path: photographs, count: 100}"
    at_smoke = r"found 384; lower them in config/scales/smoke.yaml \(train\) and config/scales/smoke.yaml \(heldout\)"
    with pytest.raises(ValueError, match=f"train, heldout: .* 100 images, {at_smoke}, or take another scale"):
        of_ones_own(project, source=small, train=80, heldout=10)
    edit(project / "config/scales/smoke.yaml", "  train: 256\n  heldout: 128\n", "")
    with pytest.raises(ValueError, match=r"found 101; lower them in config/datasets/mine.yaml \(train\)"):
        of_ones_own(project, source=small, train=91, heldout=10)
    with pytest.raises(ValueError, match=r"^config/datasets/mine.yaml: heldout: expected more than k = 3.*found 3 for"):
        of_ones_own(project, train=91, heldout=3)
    with pytest.raises(ValueError, match=r"^config/datasets/mine.yaml: train: expected more than k = 3 .*found 2 for"):
        of_ones_own(project, train=2, heldout=0)
    with pytest.raises(ValueError, match=r"^config/scales/smoke.yaml: training.batch of run mine-.*found 32; lower it"):
        of_ones_own(project, train=31, heldout=4)
    assert of_ones_own(project, train=32, heldout=0).datasets["mine"].count == 32


def test_a_dataset_file_with_other_letters_is_to_be_renamed(project):
    with pytest.raises(ValueError, match=r"^config/datasets/MyPhotos.yaml: expected a file name of a-z.*rename the"):
        of_ones_own(project, "MyPhotos")


def test_another_grid_is_given_once_and_accepted_by_samplers(project):
    method = project / "config/methods/lct.yaml"
    edit(method, "training:\n", "training:\n  grid: {sigma_min: 0.01, sigma_max: 120.0}\n")
    edit(method, "samplers:\n", "samplers:\n  far: {kind: consistency, middle_sigmas: [100.0]}\n")
    row = '"{dataset}-lct"\n    sampler: {paper: two-440, mini: two-440, smoke: '
    edit(project / "config/tables/table1.yaml", f"{row}two-440", f"{row}far")
    plan = Plan(project, {"scale": "smoke"})
    run = plan.runs["digits-lct"]
    assert run.training.scaling.sigma_min == 0.01 and run.samplers["far"].middle_sigmas == (100.0,)
    assert stage_settings.train(plan, "digits-lct")["training"]["scaling"]["sigma_min"] == 0.01
    edit(method, "sigma_max: 120.0", "sigma_max: 90.0")
    with pytest.raises(ValueError, match=r"far: expected middle_sigmas inside \(0\.01, 90\.0\)"):
        Plan(project, {"scale": "smoke"})


def test_a_claim_about_rows_that_nothing_is_published_about_is_refused(project):
    rows = "rows:\n  r: {run: '{dataset}-lct', sampler: {mini: one, smoke: one}}\n"
    (project / "config/tables/own-rows.yaml").write_text(f"id: own-rows\ntitle: t\ncaption: c\n{rows}")
    part = "{kind: beats, better: own-rows.a.r, worse: table1.a.ilct-1}"
    (project / "config/claims/mine.yaml").write_text(
        f"claims:\n  - {{id: x, statement: s, place: p, parts: [{part}]}}\n"
    )
    with pytest.raises(ValueError, match=r"claims/mine\.yaml: x: expected rows of a table with `published`, found"):
        Plan(project)
