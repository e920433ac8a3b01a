"""The paper as configuration: what each run of its tables and ablations changes, and what is refused before any job."""

import csv
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lct.cli import show as show_verb
from lct.cli.main import parser
from lct.cluster.checks import check_optional
from lct.config.folder import ConfigFolder
from lct.config.resolve import run_settings, scale_settings
from lct.config.schema import plain
from lct.files.records import flatten
from lct.plan import files as stage_files
from lct.plan import listing
from lct.plan import settings as stage_settings
from lct.plan.plan import Plan
from lct.report.collect import collect
from lct.report.render import render
from lct.schedules import NoiseGrid
from tests.helpers import ROOT

BOTH = ("block_norm", "output_norm")
NORMS = {f"network.{key}" for key in BOTH}
LOSS, LAW, MULTIPLE = "objective.loss", "objective.scale.law", "objective.scale.multiple"
DIFFUSION = {f"objective.diffusion.{key}" for key in ("threshold", "weight", "weighting")} | {"objective.diffusion"}
R = {"objective.diffusion.threshold"}
HELD = {LAW, "objective.scale.from_intervals"}
ALONG = [  # run, the run beside it, the keys in which they differ; {d} is celebahq at paper scale and digits at mini
    ("{d}-ilct-cauchy", "{d}-ilct", {LOSS}),
    ("{d}-ilct-cauchy-diff", "{d}-ilct-cauchy", DIFFUSION),
    ("{d}-ilct-cauchy-diff-ot", "{d}-ilct-cauchy-diff", {"objective.transport.kind"}),
    ("{d}-lct-gn", "{d}-ilct-cauchy-diff-ot", {LAW}),
    ("{d}-lct", "{d}-lct-gn", NORMS),
    ("{d}-lct-gn-nodiff", "{d}-lct-gn", DIFFUSION),
    ("{d}-lct-huber", "{d}-lct", {LOSS}),
    ("{d}-lct-gm", "{d}-lct", {LOSS}),
    ("{d}-lct-l2", "{d}-lct", {LOSS, LAW}),
    ("celebahq-lct-elatentlpips", "celebahq-lct", {LOSS, LAW}),
    ("celebahq-ilct-cauchy-elementwise", "celebahq-ilct-cauchy-diff-ot", {"objective.form"}),
    ("celebahq-ilct-huber-elementwise", "celebahq-ilct-cauchy-elementwise", {LOSS}),
    ("celebahq-ilct-gm-elementwise", "celebahq-ilct-cauchy-elementwise", {LOSS}),
    *((f"{{d}}-lct-{norm}", "{d}-lct", NORMS) for norm in ("ln", "rms", "in", "in-affine", "bn", "nsgn", "nsin")),
    *((f"{{d}}-lct-last-{norm}", "{d}-lct-gn", {"network.output_norm"}) for norm in ("ln", "nsln", "rms", "in")),
    ("{d}-lct-last-nsln", "{d}-lct", {"network.block_norm"}),
    ("{d}-lct-c1", "{d}-lct", {LAW}),
    *((f"{{d}}-lct-{c}", "{d}-lct-c1", {MULTIPLE}) for c in ("c0-001", "c0-01", "c0-1", "c0-3", "c3", "c10")),
    *((f"celebahq-ilct-cauchy-diff-{c}", "celebahq-ilct-cauchy-diff", {MULTIPLE}) for c in ("c0-1", "c10")),
    ("celebahq-ilct-cauchy-diff-ot-nfe-sigma", "celebahq-ilct-cauchy-elementwise", {LAW, "emas"}),
    *((f"celebahq-ilct-cauchy-diff-ot-from-{s}", "celebahq-ilct-cauchy-diff-ot", HELD) for s in (40, 80)),
    ("{d}-lct-nodiff", "{d}-lct", DIFFUSION),
    *((f"{{d}}-lct-{r}", "{d}-lct", R) for r in ("r0", "r0-4", "r0-9")),
    ("celebahq-lct-nsgn-r0-4", "celebahq-lct-nsgn", R),
    ("celebahq-ilct-cauchy-diff-r0", "celebahq-ilct-cauchy-diff", R),
    (
        "celebahq-ilct-script",
        "celebahq-ilct",
        {"network.blocks", "curriculum.s1", "batch", "epochs", "emas", "keep_epochs"},
    ),
    ("church-ilct-script-gn", "church-ilct", {"batch", "epochs", "emas"}),
    (
        "church-lct-script-gn",
        "church-lct",
        {"batch", "epochs", "keep_epochs", "emas", "objective.transport.group"} | NORMS,
    ),
]


@pytest.fixture(scope="module")
def paper() -> Plan:
    return Plan(ROOT, {"scale": "paper"})


@pytest.fixture
def project(tmp_path):
    """A copy of the configuration that a test may damage."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))


def settings(name: str) -> dict:
    config = ConfigFolder(ROOT)
    _, scale = scale_settings(config, "mini" if name.startswith("digits") else "paper")
    return flatten(plain(run_settings(config, name, scale).training))


def differences(a: str, b: str) -> set[str]:
    first, second = settings(a), settings(b)
    return {key for key in first.keys() | second.keys() if first.get(key, "-") != second.get(key, "-")}


@pytest.mark.parametrize(("run", "beside", "keys"), ALONG, ids=lambda value: value if isinstance(value, str) else "")
def test_an_ablation_differs_from_its_neighbour_in_the_intended_keys_alone(run, beside, keys):
    for dataset in ("celebahq", "digits") if "{d}" in run else ("",):
        assert differences(run.format(d=dataset), beside.format(d=dataset)) == keys


def test_every_run_of_an_ablation_is_compared_with_a_neighbour(paper):
    compared = {name.format(d="celebahq") for pair in ALONG for name in pair[:2]}
    assert {cell.run for cell in paper.cells if cell.table.startswith("ablation")} <= compared


def test_the_final_celebahq_run_is_that_of_the_fact_sheet(paper):
    run = paper.runs["celebahq-lct"]
    values, training = flatten(plain(run.training)), run.training
    expected = {  # method sheet, section 1 and 10
        "objective.loss": "cauchy",
        "objective.form": "mean",
        "objective.diffusion.threshold": 0.75,
        "objective.diffusion.weight": 5.0,
        "objective.transport.kind": "exact",
        "objective.transport.group": 128,
        "objective.scale.law": "adaptive",
        "objective.weighting": "inverse-gap",
        "objective.target_ema": 0.0,
        "network.block_norm": "non-scaling-layer",
        "network.output_norm": "non-scaling-layer",
        "network.blocks": 4,
        "network.dropout": 0.0,
        "curriculum.s0": 10,
        "curriculum.s1": 640,
        "index.kind": "lognormal",
        "optimiser.name": "radam",
        "optimiser.learning_rate.lr": 1e-4,
        "optimiser.weight_decay": 1e-4,
        "optimiser.clip_gradient_norm": None,
        "batch": 128,
        "epochs": 1400,
        "matmul": "tf32",
    }
    assert {key: values[key] for key in expected} == expected
    assert training.emas[0] == 0.99993 and len(training.emas) == 7
    assert training.schedule_steps(27_000) == 294_000 and training.curriculum.stage_steps(294_000) == 42_000
    assert training.total_steps(27_000) == 294_210  # the authors' extra pass
    assert paper.datasets["celebahq"].latent_shape == (4, 32, 32)
    assert paper.parameters_of("celebahq-lct") == (165_468_676, 158_355_972)
    assert paper.parameters_of("celebahq-lct-gn") == (151_325_956, 151_325_956)
    assert paper.parameters_of("celebahq-ilct-script") == (96_408_324, 96_408_324)
    assert [paper.datasets[name].count for name in ("celebahq", "church", "ffhq")] == [27_000, 240_000, 70_000]


def test_the_papers_latents_are_draws_of_the_downloaded_autoencoder(paper):
    for name, count in (("celebahq", 27_000), ("church", 50_000), ("ffhq", 50_000)):
        dataset = paper.datasets[name]
        encoding = dataset.encoding
        assert stage_files.autoencoder_sources(paper, name) == ["resources/sd-vae-ft-ema/download.json"]
        assert stage_files.latents(paper, name, "") == f"results/paper/latents/{name}/posterior/"
        assert (encoding.sample, encoding.normalisation, encoding.sigma_data) == ("posterior", "per-element", 0.5)
        assert min(dataset.count, encoding.reconstruct) == count


def test_celebahq_has_one_origin_and_a_seeded_split_and_the_page_says_so(paper):
    celebahq, church = paper.datasets["celebahq"], paper.datasets["church"]
    kinds = [alternative.origin.kind for alternative in celebahq.source.alternatives]
    assert kinds == ["hub", "manual"], "what is fetched is always the same"
    assert {alternative.read.split for alternative in celebahq.source.alternatives} == {"seeded"}
    assert "seeded draw" in celebahq.note and "first download is trusted" in church.note


def test_table_1_shows_the_printed_epochs_and_batch_and_its_runs_say_so(paper):
    for cell in (cell for cell in paper.cells if cell.table == "table1"):
        training = paper.runs[cell.run].training
        row = paper.published["table1"].rows_of(cell.subtable)[cell.row]
        assert (training.epochs, training.batch) == (row.epochs, row.batch_size), cell
        assert paper.runs[cell.run].note
    samplers = {(cell.subtable, cell.row): cell.sampler for cell in paper.cells if cell.table == "table1"}
    assert samplers["a", "lct-2"] == samplers["c", "lct-2"] == "two-440" and samplers["b", "lct-2"] == "two-420"
    assert {samplers[letter, "ldm-8"] for letter in "abc"} == {"euler-250"}


def test_paper_scale_trains_nothing_twice_and_lists_every_table(paper):
    assert listing.left_out(paper, "tables") and [table["id"] for table in listing.left_out(paper, "tables")] == [
        "outside",
        "readings",
        "robust-c",
    ]
    trained = [repr((run.dataset, plain(run.training), run.init)) for run in paper.runs.values()]
    assert len(trained) == len(set(trained))
    one = {cell.run for cell in paper.cells if cell.table == "ablation-f"}
    assert one == {"celebahq-lct"}


def test_no_row_of_a_bare_snakemake_needs_what_is_neither_locked_nor_pinned(paper):
    runs = {name: paper.runs[name].training.objective for name in paper.runs_of("tables")}
    assert not [name for name, objective in runs.items() if objective.loss == "e-latent-lpips"]
    (cell,) = (cell for cell in paper.cells if cell.run == "celebahq-lct-elatentlpips")
    assert cell.table == "readings" and cell.table in paper.scale.more_tables
    (finding,) = check_optional(paper)
    assert finding.level == "warn" and "celebahq-lct-elatentlpips of `snakemake all_tables` need it" in finding.line()
    for name in (
        paper.extractor("celebahq", kind).weights for p in paper.scale.protocols for kind in (p.distance, p.recall)
    ):
        files = [file for origin in paper.downloads[name] if origin.kind == "web" for file in origin.files]
        assert all(file.sha256 for file in files), name


def test_rows_of_one_training_differ_by_sampler_ema_or_epoch(paper):
    cells = {(cell.table, cell.row): cell for cell in paper.cells if cell.subtable == "a"}
    assert cells["ablation-f", "two-300"].sampler == "two-300"
    assert cells["ablation-f", "ema-0-999"].weights == "step294210-ema0.999"
    assert cells["ablation-d", "adaptive-e175"].weights == f"step{176 * 210}-ema0.99993"  # after the pass numbered 175
    assert cells["table1", "lct-1"].weights == cells["ablation-d", "adaptive"].weights == "step294210-ema0.99993"
    chain = ("ilct", "cauchy", "diff", "ot", "c", "nsln", "nodiff")
    assert {cells["ablation-a", row].weights for row in chain} == {"step294210-ema0.9999"}  # one EMA along the chain
    kept = paper.kept_weights("celebahq-lct")
    assert len(kept) == 7 + 7 and len(set(kept)) == 14  # seven EMAs at the end, one at each earlier epoch


def test_every_number_that_is_not_in_print_says_where_it_is_known_from(paper):
    for name, table in paper.published.items():
        for row in (row for subtable in table.subtables for row in subtable.rows):
            if name == "table1":
                assert row.origin.kind == "published table"
            elif row.fid is None:
                assert row.origin.kind == "not published"
            else:
                assert row.origin.kind == "published table" or (row.origin.place and row.origin.line)
    chain = {row.id: row for row in paper.published["ablation-a"].subtables[0].rows}
    figures = {name: (round(row.fid, 2), row.origin.status) for name, row in chain.items() if row.fid}
    assert figures == {
        "ilct": (37.15, None),
        "diff": (9.41, "I"),
        "ot": (9.53, "I+"),
        "c": (7.83, "L"),
        "nsln": (7.32, "L"),
        "c-first": (8.2, "I"),
        "nodiff": (8.1, "L"),
        "ilct-script": (16.84, "L"),
    }


def test_the_mini_default_holds_table_1_and_what_needs_no_training():
    plan = Plan(ROOT, {"scale": "mini"})
    assert plan.tables_of("tables") == ["table1", "ablation-f"]
    assert len(plan.runs_of("tables")) == 9 and not any(plan.runs[run].reduced for run in plan.runs_of("tables"))
    further = set(plan.runs_of("all")) - set(plan.runs_of("tables"))
    assert further and all(run.endswith("-short") and plan.seeds_of(run) == (0,) for run in further)
    assert not set(stage_files.report_metrics(plan, "tables")) - set(stage_files.report_metrics(plan, "all"))
    left = {table["id"]: table["command"] for table in listing.left_out(plan, "tables")}
    assert left["ablation-a"] == "snakemake all_tables --config scale=mini"
    assert plan.runs["digits-lct-short"].sources["steps"] == "config/scales/mini.yaml: short"


def test_c0_is_the_papers_by_value_at_small_scales_and_by_formula_at_paper_scale():
    for scale, runs in {"mini": ("digits-lct", "digits-ilct", "digits-lct-l2-short"), "smoke": ("digits-lct",)}.items():
        plan = Plan(ROOT, {"scale": scale})
        for run in runs:
            training = stage_settings.train(plan, run)["training"]
            assert training["objective"]["scale"]["c0"] == 0.03456
            assert plan.runs[run].training.objective.scale.c(10, 10, 64, NoiseGrid()) == 0.03456
        _, figure = plan.figures["figure1"]
        assert figure.objective.scale.c0 == 0.03456
    plan = Plan(ROOT, {"scale": "paper"})
    assert "c0" not in stage_settings.train(plan, "celebahq-lct")["training"]["objective"]["scale"]
    assert "objective.scale.c0" not in plan.runs["celebahq-lct"].sources  # recorded projects plan nothing new


def show(*words: str) -> tuple:
    arguments = parser().parse_args(["show", *words])
    arguments.root = ROOT
    return show_verb.show(arguments)


def test_show_prints_sources_sizes_and_stages():
    _, value, text = show("celebahq-lct", "--scale", "paper")
    assert value["facts"]["parameters"] == 165_468_676 and value["facts"]["trainable parameters"] == 158_355_972
    assert value["facts"]["steps of a stage"] == 42_000 and value["facts"]["points N by stage"][-1] == 641
    assert value["settings"]["batch"]["source"] == "config/datasets/celebahq.yaml"
    assert value["settings"]["matmul"]["source"] == "config/scales/paper.yaml"
    assert "config/methods/lct.yaml" in text and "default" in text
    _, value, _ = show("celebahq-lct-r0-4", "celebahq-lct", "--scale", "paper")
    assert value == {"objective.diffusion.threshold": {"celebahq-lct-r0-4": 0.4, "celebahq-lct": 0.75}}
    _, value, _ = show("celebahq-lct-r0-4", "--scale", "paper")
    place = "config/runs/ablations.yaml: celebahq-lct-r0-4"
    assert value["settings"]["objective.diffusion.threshold"]["source"] == place
    assert show("digits-lct-gn-short", "--scale", "mini")[1]["settings"]["steps"]["value"] == 1000


def test_given_weights_are_sampled_without_training(project):
    path = project / "config/runs/digits.yaml"
    digest = "ab" * 32
    path.write_text(
        path.read_text() + f"digits-given: {{base: digits-lct, weights: {{path: w.st, sha256: {digest}}}}}\n"
    )
    edit(project / "config/tables/table1.yaml", 'lct-1:\n    run: "{dataset}-lct"', 'lct-1:\n    run: "digits-given"')
    plan = Plan(project, {"scale": "smoke"})
    cell = next(cell for cell in plan.cells if cell.row == "lct-1")
    assert cell.weights == "given-abababababab" and [s.seed for s in cell.sets] == [0]
    assert not any("digits-given" in name and "curves" in name for name in stage_files.report_inputs(plan))
    assert stage_settings.import_weights(plan, "digits-given")["latent_shape"] == [4, 4, 4]


@pytest.mark.parametrize(
    ("scale", "file", "old", "new", "message"),
    [
        (
            "paper",
            "runs/celebahq.yaml",
            "{blocks: 2}",
            "{block_norm: layer, output_norm: layer, groups: 8}",
            "network.groups",
        ),
        ("paper", "datasets/celebahq.yaml", "  batch: 128", "  batch: 1", "transport: expected a batch of 2 or more"),
        ("paper", "datasets/celebahq.yaml", "  batch: 128", "  batch: 192", "expected a divisor of the batch 192"),
        ("paper", "datasets/celebahq.yaml", "  batch: 128", "  batch: 32000", "batch: expected at most the 27000"),
        ("paper", "runs/celebahq.yaml", "{s1: 1280}", "{s1: 5}", "expected 1 <= s0 <= s1"),
        ("paper", "runs/ablations.yaml", "{threshold: 0.4}", "{threshold: 1.4}", "expected r from 0 to 1, found 1.4"),
        ("paper", "runs/ablations.yaml", "form: elementwise", "form: per-pixel", "form: expected one of .*'per-pixel'"),
        ("paper", "datasets/celebahq.yaml", "epochs: 1400", "epochs: 1", "keep_epochs: expected epochs from 1 to 0"),
        (
            "paper",
            "datasets/church.yaml",
            "  batch: 256\n  epochs: 1800",
            "  batch: 119808\n  epochs: 3",
            "run church-ilct: curriculum: expected at least 7 steps",
        ),
        ("paper", "datasets/celebahq.yaml", "[175, 375", "[0, 375", "keep_epochs: expected epochs from 1 to 1399"),
        (
            "paper",
            "tables/ablation-f.yaml",
            "{paper: 0.999,",
            "{paper: 0.998,",
            "ema: expected one that run celebahq-lct",
        ),
        (
            "paper",
            "tables/ablation-d.yaml",
            "epoch: {paper: 175}",
            "epoch: {paper: 170}",
            "epoch: expected one that run",
        ),
        (
            "paper",
            "tables/ablation-a.yaml",
            "  nsln:",
            "  nslm:",
            r"ablation-a\.yaml: rows: expected rows .*\['nslm'\]",
        ),
        ("paper", "tables/table1.yaml", "{paper: euler-250", "{paper: heun-40", "expected one of 250 NFE, .*with 79"),
        ("paper", "published/ablation-a.yaml", "status: L,", "status: LL,", "status: expected one of|ablation-a"),
        (
            "paper",
            "published/ablation-a.yaml",
            ", origin: {kind: not published}",
            ", fid: 3.0, origin: {kind: not published}",
            "expected no numbers with origin",
        ),
        ("paper", "published/ablation-b.yaml", "fid: ", "fidd: ", "unknown key 'fidd'"),
        (
            "paper",
            "scales/paper.yaml",
            "num_images: 50176",
            "num_images: 60000",
            "protocols.authors: num_images: expected at most the 50176 images",
        ),
        ("paper", "extractors/inception-pytorch-fid.yaml", "id: inc", "id: x-inc", "fid.yaml: id: expected 'inception"),
        (
            "paper",
            "extractors/inception-pytorch-fid.yaml",
            "resize: pytorch-fid",
            "resize: own",
            "extractor.resize of inception: expected one of",
        ),
        ("paper", "scales/paper.yaml", "distance: inception-pytorch-fid", "distance: vgg16-stylegan2-ada", "than FID"),
        (
            "paper",
            "scales/paper.yaml",
            "distance: inception-pytorch-fid",
            "distance: dataset",
            "FID.*cnn64; call it FD",
        ),
        (
            "paper",
            "scales/paper.yaml",
            "[readings, robust-c, outside]",
            "[table1]",
            "every table once, found .'table1'. twice",
        ),
        (
            "paper",
            "runs/ablations.yaml",
            'base: "{dataset}-ilct-cauchy"',
            'base: "{dataset}-ilct-cauchi"',
            "base: expected a run",
        ),
        (
            "paper",
            "runs/ablations.yaml",
            'base: "{dataset}-ilct"',
            'base: "{dataset}-ilct-cauchy-diff"',
            "expected no circle",
        ),
        ("paper", "runs/church.yaml", "  method: lct\n", "", "expected key 'method' or `base`"),
        (
            "paper",
            "runs/celebahq.yaml",
            "  base: celebahq-ilct\n",
            "  base: celebahq-ilct\n  method: ilct\n",
            "found both",
        ),
        (
            "paper",
            "runs/ablations.yaml",
            '"{dataset}-lct-huber"',
            '"lct-huber"',
            "in the name of a run with `datasets`",
        ),
        (
            "mini",
            "scales/mini.yaml",
            "seeds: {digits: [0]}\n",
            "seeds: {china: [0]}\n",
            "short.seeds: expected training seeds",
        ),
        ("mini", "tables/ablation-f.yaml", "mini: 0.98", "mini: 0.97", "ema: expected one that run digits-lct keeps"),
    ],
)
def test_contradictions_are_refused_before_the_graph(project, scale, file, old, new, message):
    edit(project / "config" / file, old, new)
    with pytest.raises(ValueError, match=message) as caught:
        Plan(project, {"scale": scale})
    assert "\n" not in str(caught.value)


def test_middle_sigmas_outside_the_grid_of_the_run_are_refused(project):
    path = project / "config/runs/digits.yaml"
    added = "digits-wide: {base: digits-lct, training: {grid: {sigma_max: 40.0}}, samplers: {wide: {kind: consistency, "
    path.write_text(path.read_text() + added + "middle_sigmas: [50.0]}}}\n")
    table = project / "config/tables/table1.yaml"
    edit(table, 'lct-2:\n    run: "{dataset}-lct"', 'lct-2:\n    run: "digits-wide"')
    edit(table, "mini: two-440, smoke: two-440}\n    datasets", "mini: two-440, smoke: wide}\n    datasets")
    with pytest.raises(ValueError, match=r"lct-2: sampler wide: expected middle_sigmas inside \(0\.002, 40\.0\)"):
        Plan(project, {"scale": "smoke"})


def test_a_wrong_hash_of_given_weights_is_refused(project):
    path = project / "config/runs/digits.yaml"
    path.write_text(path.read_text() + "digits-given: {base: digits-lct, weights: {path: w.st, sha256: abc}}\n")
    with pytest.raises(ValueError, match="sha256: expected 64 hexadecimal digits in lower case, found 'abc'"):
        Plan(project, {"scale": "smoke"})


def test_the_dry_run_lists_the_whole_paper():
    command = [sys.executable, "-m", "snakemake", "-n", "--config", "scale=paper"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    for title in ("Table 1.", *(f"Ablation {letter}." for letter in "ABCDEF")):
        assert title in done.stdout
    for run in Plan(ROOT, {"scale": "paper"}).runs_of("tables"):
        assert f"  {run} " in done.stdout, run


def test_the_paper_is_measured_by_the_authors_protocol_first(paper):
    authors, standard = paper.scale.protocols
    assert (authors.id, standard.id, paper.protocol.id) == ("authors", "standard", "authors")
    inception, recall = (paper.extractor("celebahq", name) for name in (authors.distance, authors.recall))
    assert (inception.architecture, inception.resize) == ("inception", "pytorch-fid")
    assert (recall.architecture, recall.dtype, authors.dtype, authors.k) == ("torchscript", "float16", "float16", 3)
    assert authors.num_images == paper.scale.sampling.count == 50_176 and authors.jpeg_quality == 75
    assert paper.protocols_of("church")[0].num_images == paper.sampling_of("church").count == 51_200
    assert (authors.recall_generated, authors.recall_reference) == (50_000, 200_000)
    assert (standard.num_images, standard.jpeg_quality, standard.reference_jpeg_quality) == (50_000, None, None)
    assert (
        stage_files.extractors(paper, "church")["vgg16-stylegan2-ada"] == "resources/vgg16-stylegan2-ada/download.json"
    )
    assert stage_files.own_extractor(paper, "church") is None  # no network of its own is trained
    assert stage_files.features(paper, "church-lct", 0) == []  # and 2 GB of features per image set are not kept


def test_floor_rows_without_held_out_images_say_so(project):
    plan = Plan(project, {"scale": "paper"})
    assert [Path(path).parent.name for path in stage_files.floors(plan, "ffhq")] == ["reconstruction"] * 2
    floors = collect(plan, project).tables[0].subtables[2].floors
    assert floors[0].why == "no held-out images" and floors[1].model == "Training images through the VAE"
    edit(project / "config/datasets/ffhq.yaml", "train: 70000\nheldout: 0", "train: 67000\nheldout: 3000")
    edit(project / "config/scales/paper.yaml", "reference: train", "reference: all")
    plan = Plan(project, {"scale": "paper"})
    floors = collect(plan, project).tables[0].subtables[2].floors
    assert floors[0].why == "the held-out images are part of the reference"
    assert floors[1].model == "Training images through the VAE" and "fewer are held out" in floors[1].explanation


def test_the_report_marks_what_is_not_print_and_names_what_is_left_out(tmp_path):
    plan = Plan(ROOT, {"scale": "mini"})
    short, whole = (render(collect(plan, tmp_path, which), tmp_path) for which in ("tables", "all"))
    for name in ("index.html", "report.md"):
        assert "Not in this report" in short[name] and "snakemake all_tables --config scale=mini" in short[name]
        assert "Ablation A. Components" in short[name]  # named, and not there:
        assert "+ optimal transport" not in short[name] and "+ optimal transport" in whole[name]
        assert "log, I+" in whole[name] and "not published" in whole[name] and "log, L" in short[name]
        assert "Shortened at this scale" in whole[name] and "Shortened at this scale" not in short[name]
    assert "log, I+" in whole["tables.tex"] and "Shortened at this scale" in whole["tables.tex"]
    lines = list(csv.DictReader(io.StringIO(whole["tables.csv"])))
    sources = {line["table"]: {other["source"] for other in lines if other["table"] == line["table"]} for line in lines}
    assert sources["table1"] == {"published", "published, quoted there", "this project"}
    assert sources["ablation-a"] == {"published", "authors' log", "this project"}
    assert sources["ablation-f"] == {"authors' log", "this project"}
    runs = collect(Plan(ROOT, {"scale": "paper"}), tmp_path).runs
    assert runs["celebahq-lct"].parameters == 165_468_676 and "logged 7.27" in runs["celebahq-lct"].note
