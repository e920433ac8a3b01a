import functools
import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from lct.cluster.cost_model import reading_threads
from lct.cluster.resources import Cluster, Requests
from lct.cluster.doctor import require_accounting
from lct.cluster.slurm import recording_step
from lct.cluster.run import (
    ReportSoFar,
    RunProgress,
    check_device,
    check_project,
    check_settings,
    check_writable,
    correct_slurm_plugin,
    ignore_time_warnings,
    plain_defaults,
    planned_seconds,
    quieter,
    set_job_environment,
    start_again,
    take_lock,
    unrecorded,
    wait_for_earlier_jobs,
)
from lct.plan import (
    files as stage_files,
    listing,
    settings as stage_settings,
)
from lct.plan.names import target_names
from lct.plan.paths import (
    AUTOENCODER_FILES,
    EVIDENCE,
    IMAGE_SPLITS,
    LATENT_FILES,
    PICTURES,
    RECONSTRUCTIONS,
    REPORT_FILES,
    TEMPLATES,
    download,
    grid,
    manifest,
)
from lct.plan.configuration import CLAIMS
from lct.plan.plan import Plan
from lct.plan.settings import RECIPES
from lct.plan.selection import option_words, plan_of
from lct.files.hashing import sha256_json
from lct.files.records import run_path, settings_path
from lct.lineage.guard import check_links, check_plan
from lct.lineage.dvc import place_fault
from lct.lineage.hooks import (
    print_table,
    record_earlier_run,
    record_run,
    render_report,
)
from lct.lineage.snakemake_adapter import (
    after_planning,
    decide_by_records,
    is_planning,
    jobs_of,
    offer_targets,
    plan_quickly,
    rules_due,
    unfinished_outputs,
)
from lct.jobs.drop_images import drop_images, keeps_images
from lct.jobs.rehearsal import write_rehearsal

DEFAULTS = plain_defaults(workflow.resource_settings.default_resources)
ON_CLUSTER = "slurm_partition" in DEFAULTS

WORDS = [] if is_planning() else sys.argv[1:]  # of this command
if CLAIMS in WORDS:  # `snakemake claims` is `snakemake --config only=claims`
    config["only"] = CLAIMS

plan_quickly()
set_job_environment()
WATCHERS = []  # called with the id of each finished job, once the run has begun
quieter(ON_CLUSTER, lambda job: [watcher(job) for watcher in WATCHERS] and None)
ignore_time_warnings()
correct_slurm_plugin()
if workflow.exec_mode.name == "DEFAULT":
    decide_by_records()

_project = Path(workflow.basedir).resolve()
if Path.cwd().resolve() != _project:
    raise WorkflowError(
        f"{Path.cwd()}: expected the project's folder {_project}, found another one; "
        f"start there, or with: --directory {shlex.quote(str(_project))}"
    )
try:
    check_project(_project)
    PLAN = Plan(Path(workflow.basedir), dict(config))
    while _implied := listing.implied(PLAN, WORDS, config):
        config.update(_implied)
        PLAN = Plan(Path(workflow.basedir), dict(config))
        _words = workflow.config_settings.config_args or []
        workflow.config_settings.config_args = [
            *_words,
            *(f"{key}={value}" for key, value in _implied.items()),
        ]  # for the processes of its jobs
    _more_runs = {
        *listing.mentioned(PLAN.unlisted(), WORDS),
        *(run for run, _ in PLAN.unlisted_trainings(Path.cwd())),
    } - PLAN.runs.keys()
    if _more_runs:
        PLAN = Plan(Path(workflow.basedir), dict(config), _more_runs)
    if workflow.exec_mode.name == "DEFAULT":
        check_links(Path.cwd(), PLAN.scale_name)
    check_device(os.environ.get("LCT_DEVICE"))
    REQUESTS = Requests(PLAN, Cluster.of(DEFAULTS))
    KEEP_IMAGES = keeps_images(PLAN.main.keep_images, DEFAULTS)
    RECORDING = recording_step(DEFAULTS if ON_CLUSTER else {})
except ValueError as error:
    raise WorkflowError(str(error)) from None
PATHS = PLAN.paths
RECORDED = PLAN.main.record and PLAN.scale.limit is None  # a rehearsal is no result
for _name, _value in PLAN.main.downloads.environment().items():
    os.environ.setdefault(_name, _value)  # not a param: another mirror reruns nothing
if (_minutes := PLAN.main.save_minutes or DEFAULTS.get("save_minutes")) is not None:
    os.environ.update(LCT_SAVE_MINUTES=str(_minutes))  # no param either
if PLAN.main.save_minutes is not None:
    os.environ.update(
        LCT_STATE_GB_PER_HOUR="inf"
    )  # what a command asks for is not made less
LAUNCH = (  # jobs of the GPU classes: on the devices asked for, and where signals reach them
    "python -m lct.jobs.launch --gpus {resources.gpu} --cpus {resources.cpus_per_task}"
    " --minutes {resources.runtime}"
)
LOCKS = []  # the lock's handle lives as long as this process
DROPPED = []  # image sets that went
DUE = set()  # rules that this run has jobs of


def records(*outputs):
    """The two JSON files beside each output."""
    return [str(of(output)) for output in outputs for of in (settings_path, run_path)]


def rule_name(stage, owner):
    """A rule's name from a stage and a run or dataset."""
    return f"{stage}_{owner.replace('-', '_')}"


def run_log(stage, run, at, ending):
    """Log of a run's job at a milestone, or Snakemake's benchmark of it (tsv)."""
    return PATHS.log(stage, run, f"s{{seed}}{PLAN.suffix(run, at)}.{ending}")


def resource_class(kind, stage=None, owner=None, at=None):
    """Resources of a class of jobs (local, cpu, gpu_small, gpu_train); with a stage, sized for its run (at a milestone) or
    dataset, or for the dataset that the wildcard {dataset} names."""
    if stage is None or owner is not None:
        return REQUESTS.of(kind, stage, owner, at)
    sized = {name: REQUESTS.of(kind, stage, name) for name in PLAN.datasets}
    every_key = set().union(*sized.values())
    without = {"slurm_partition": REQUESTS.cluster.partition, "gpu_model": ""}

    def of_dataset(key):
        def value(wildcards, attempt):
            resource = sized[wildcards.dataset].get(key, without.get(key))
            return resource(wildcards, attempt) if callable(resource) else resource

        return value

    return {key: of_dataset(key) for key in sorted(every_key)}


def first_dataset_first(step, dataset=None, run=None):
    """A rule's priority: jobs of the first sub-table before those of the next, so that its cells are there early; among
    them those of a run's first training seed, then those of a later `step`. Without `dataset`, that of the wildcard.
    """
    order = list(reversed(PLAN.shown_datasets))

    def of(wildcards):
        name = dataset or wildcards.dataset
        is_further = (
            run is not None and int(wildcards.seed) not in PLAN.seeds_of(run)[:1]
        )
        return step + (
            10 * (2 * order.index(name) + 2 - is_further) if name in order else 0
        )

    return of


def evaluation_group(run, at):
    """The group that makes sampling and scoring of a run's milestone one job on a cluster, where both are short."""
    return "evaluate" if REQUESTS.sampled_and_scored_together(run, at) else None


@functools.cache
def settings_text(stage, *owner):
    """Settings of a stage as its jobs take them: JSON."""
    return json.dumps(getattr(stage_settings, stage)(PLAN, *owner), sort_keys=True)


def settings_param(stage, *owner):
    """The same as a param, so that a changed setting reruns the job: a function, called for planned jobs alone, in whose
    text Snakemake does not look for wildcards. Without `owner`, of the dataset that the wildcard {dataset} names.
    """

    def text(wildcards):
        return settings_text(stage, *(owner or (wildcards.dataset,)))

    return text


def download_settings(wildcards):
    """The same for the download that the wildcard {id} names."""
    try:
        PLAN.download_record(wildcards.id, f"resources/{wildcards.id}")
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    return settings_text("download", wildcards.id)


def start_alone():
    """Stop before anything is touched when Snakemake lacks its profile, another one is running, or the plan would train
    a recorded cell again."""
    if workflow.exec_mode.name != "DEFAULT":  # a job's own Snakemake on a cluster node
        return
    dag = workflow.dag_settings
    try:
        check_settings(
            triggers={trigger.name.lower() for trigger in dag.rerun_triggers},
            max_checksum_bytes=dag.max_checksum_file_size,
            snakemake_lock=workflow.execution_settings.lock,
            rerun_incomplete=dag.force_incomplete,
        )
        check_writable(Path.cwd())
        if RECORDED and (fault := place_fault(Path.cwd())):
            say(f"Warning: this run will not be recorded: {fault}")
        if ON_CLUSTER:
            require_accounting(
                getattr(workflow.executor_settings, "status_command", "squeue")
            )
        LOCKS.append(take_lock(Path.cwd()))
        if wait_for_earlier_jobs(Path.cwd(), say, ON_CLUSTER):
            start_again()  # what they made was not there when this run was planned
        for job in unrecorded(workflow.dag):
            workflow.async_run(workflow.persistence.finished(job))
        check_plan(Path.cwd(), PLAN, jobs_of(workflow.dag), ["snakemake", *WORDS])
        DUE.update(rules_due(workflow.dag))
        planned = planned_seconds(REQUESTS, workflow.dag.needrun_jobs())
        WATCHERS.extend([RunProgress(planned, say), ReportSoFar(Path.cwd(), PLAN, say)])
        WATCHERS.append(drop_images_read)
    except (ValueError, RuntimeError) as error:
        raise WorkflowError(str(error)) from None


def image_threads(wildcards):
    return reading_threads(PLAN, wildcards.dataset)


def heldout_images(wildcards):
    return stage_files.heldout(
        PLAN, wildcards.dataset, manifest(PATHS.images(wildcards.dataset, "heldout"))
    )


def say(line):
    """One line on the terminal."""
    print(line, file=sys.stderr, flush=True)


def record_lineage():
    """Record what this run finished; a warning when that fails."""
    if RECORDED and workflow.exec_mode.name == "DEFAULT":
        say(record_run(Path.cwd(), dict(config), PLAN.scale_name, RECORDING))


def drop_images_read(job=None):
    """Drop the sampled image sets that no job needs any more, where they are not to be kept."""
    if LOCKS and not KEEP_IMAGES:
        DROPPED.extend(drop_images(Path.cwd(), PLAN, unfinished_outputs(workflow.dag)))


def say_what_is_dropped():
    """Drop what is left to drop, and say how many image sets went."""
    drop_images_read()
    if DROPPED:
        say(
            f"{len(DROPPED)} image sets were dropped after they were measured; their jobs can make them again"
        )


def close_watchers():
    """End what was rendered while jobs ran."""
    for watcher in WATCHERS:
        if isinstance(watcher, ReportSoFar):
            watcher.close()


def say_what_is_replaced():
    """The line that a run would stop with, in a dry run."""
    try:
        check_plan(Path.cwd(), PLAN, jobs_of(workflow.dag), ["snakemake", *WORDS])
    except ValueError as error:
        say(f"Without -n this stops: {error}")


def say_results():
    """The rows that this run was about, where it did anything."""
    names = sorted(set(WORDS) & set(target_names(PLAN.cells)))
    if (
        workflow.exec_mode.name == "DEFAULT"
        and LOCKS
        and (DUE & {"tables_tables"} or (names and DUE - set(names)))
    ):
        say(print_table(Path.cwd(), PLAN, names))


def say_where_the_report_is():
    for which in ("tables", "all"):
        if Path(PATHS.report("index.html", which)).exists():
            what = "The report" if which == "tables" else "The report of all tables"
            say(f"{what} is at {PATHS.report('index.html', which)}")


def show_rehearsal():
    """Write the page of a rehearsal, of the jobs that have finished."""
    if LOCKS and PLAN.scale.limit is not None:
        say(write_rehearsal(Path.cwd(), REQUESTS, workflow.dag.jobs))


def render_what_exists():
    """A report in place of each that this run was to make and did not."""
    if LOCKS:  # not in a job's own Snakemake, nor beside another run
        due = rules_due(workflow.dag)
        for which in ("tables", "all"):
            if f"report_{which}" in due:
                say(render_report(Path.cwd(), PLAN, which))


def say_how_to_go_on():
    say(
        "Not everything was made; the last lines of failed jobs are above, their logs under "
        f"logs/{PLAN.scale_name}/. The same command goes on from here."
    )


if (
    PLAN.main.record
    and workflow.exec_mode.name == "DEFAULT"
    and not (workflow.output_settings.dryrun or is_planning())
):
    record_earlier_run(Path.cwd(), say)

if (
    workflow.output_settings.dryrun
):  # the profile keeps Snakemake's own list of jobs short
    for _line in listing.dry_run_lines(PLAN):
        say(_line)
    if not is_planning():
        after_planning(workflow, say_what_is_replaced)
elif workflow.exec_mode.name == "DEFAULT" and not is_planning():
    for _line in listing.own_folder_lines(PLAN):
        say(_line)


wildcard_constraints:
    dataset="[a-z0-9_-]+",
    id="[a-z0-9_-]+",
    encoding="[a-z0-9_-]+",
    extractor="[a-z0-9_-]+",
    seed="[0-9]+",
