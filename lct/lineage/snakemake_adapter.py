"""The only module that uses Snakemake from inside: the jobs of a plan with their reasons, and the metadata of outputs.

The reason: `snakemake --detailed-summary` prints the same verdicts (`bool(dag.reason(job))`), but neither the jobs nor
the reasons, and its columns break at a tab or a line end inside a command. No command of Snakemake writes metadata,
without which a restored clone would plan every job again. Both rest on private names, so requirements.lock pins the
version, and `tests/unit/lineage/test_lineage.py` compares the verdicts with Snakemake's own.
"""

import functools
import json
import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct.files.atomic import read_json_or_empty, write_text
from lct.files.formatting import format_some
from lct.files.local_source import look_again
from lct.files.records import RUN, SETTINGS, SETTINGS_CHANGED, disagreements, is_dropped, run_path, settings_path
from lct.plan.paths import manifest

TARGETS = ("all", "all_tables", "unlisted")  # between them, every output that a scale declares or has
_KEPT = ("rule", "input", "log", "params", "code", "record_format_version", "software_stack_hash", "input_checksums")
_PLANNING: list[Path] = []  # projects whose plan is being asked for
_NAME_MAX = 254  # characters of a metadata file's name, after which Snakemake starts a folder


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of the graph."""

    rule: str  # its rule
    outputs: tuple[str, ...]  # declared outputs, the JSON records beside them left out
    inputs: tuple[str, ...]  # declared inputs
    settings: dict[str, Any] | None  # what it is given as --settings
    due: bool  # whether Snakemake would run it
    reasons: tuple[str, ...]  # why, in plain words


def upstream(jobs: Iterable[Job], paths: Iterable[str] | None = None) -> list[Job]:
    """The jobs that make the paths and whatever they need, producers first; without paths, every job."""
    makers = {path: job for job in jobs for path in job.outputs}
    ordered: dict[str, Job] = {}

    def visit(job: Job) -> None:
        if job.outputs[0] not in ordered:
            for path in job.inputs:
                if path in makers:
                    visit(makers[path])
            ordered[job.outputs[0]] = job

    for path in makers if paths is None else paths:
        if path in makers:
            visit(makers[path])
    return list(ordered.values())


def is_record(path: str) -> bool:
    """Whether a declared output is one of the two JSON files beside another one."""
    return path.endswith((".settings.json", ".run.json"))


def jobs_of(dag: Any) -> list[Job]:
    """The jobs of a Snakemake DAG that declare outputs, in the order of their first output."""
    jobs = []
    for job in dag.jobs:
        outputs = tuple(str(path) for path in job.output if not is_record(str(path)))
        if not outputs:
            continue
        reason = dag.reason(job)
        jobs.append(
            Job(
                rule=job.rule.name,
                outputs=outputs,
                inputs=tuple(str(path) for path in job.input),
                settings=_settings(job),
                due=bool(reason),
                reasons=tuple(_words(reason, job)),
            )
        )
    return sorted(jobs, key=lambda job: job.outputs[0])


def rules_due(dag: Any) -> set[str]:
    """Rules of a Snakemake DAG with jobs that are due and have not finished."""
    return {job.rule.name for job in dag.needrun_jobs()}


def offer_targets(workflow: Any, describe: Callable[[], dict[str, str]], unknown: Callable[[str], str | None]) -> None:
    """Let `snakemake --list` show targets with what they are, and an unknown one end in one line.

    describe: gives name -> description. unknown: the line about what is no rule; None for a file that may be made."""
    from snakemake.exceptions import WorkflowError

    is_rule = workflow.is_rule

    def is_existing_rule(name: str) -> bool:
        targets = workflow.dag_settings.targets if workflow.dag_settings else ()
        if name in targets and not is_planning():
            rule = workflow.get_rule(name) if is_rule(name) else None
            is_file = "/" not in name and os.path.exists(name)
            is_target = is_file if rule is None else not rule.has_wildcards()
            if not is_target and (line := unknown(name)) is not None:
                raise WorkflowError(line)
        return is_rule(name)

    def list_rules(only_targets: bool = False) -> None:
        texts = describe()
        width = max(map(len, texts))
        print("\n".join(f"{name:<{width}}  {text}" for name, text in texts.items()))

    workflow.is_rule, workflow.list_rules = is_existing_rule, list_rules


def plan_quickly() -> None:
    """Spare Snakemake work that changes nothing of its plan, a third of the time that the paper's 627 jobs take.

    A path is compared with the ends of an output's pattern before a regular expression is compiled. A dry run formats
    no hidden job. What Snakemake knows of an output is read once, for its two records too, which are of the same job;
    Snakemake remembers 128 otherwise, and reads each of more four times."""
    from snakemake.executors.dryrun import Executor
    from snakemake.io import _IOFile
    from snakemake.persistence.file import FilePersistence
    from snakemake.settings.enums import Quietness

    if hasattr(_IOFile.match, "by_expression"):
        return
    by_expression, print_job = _IOFile.match, Executor.printjob
    FilePersistence._read_record_cached = functools.cache(FilePersistence._read_record_cached.__wrapped__)

    def read_record(self: Any, path: str) -> Any:
        output = path.removesuffix(SETTINGS).removesuffix(RUN)
        return self._read_record_cached(output) or self._read_record_cached(path)

    def match(self: Any, target: str) -> Any:
        start, end = self.file.partition("{")[0], self.file.rpartition("}")[2]
        return by_expression(self, target) if target.startswith(start) and target.endswith(end) else None

    def print_shown_job(self: Any, job: Any) -> None:
        output = self.workflow.output_settings
        if Quietness.RULES not in (output.quiet or ()) or output.log_handler_settings:
            print_job(self, job)

    FilePersistence._read_record = read_record
    match.by_expression = by_expression  # type: ignore[attr-defined]
    _IOFile.match, Executor.printjob = match, print_shown_job


def after_planning(workflow: Any, call: Callable[[], None]) -> None:
    """Call something once the jobs of a command are known, also in a dry run."""
    build = workflow._build_dag

    def build_and_call() -> None:
        build()
        call()

    workflow._build_dag = build_and_call


def _settings(job: Any) -> dict[str, Any] | None:
    """The settings that a Snakemake job gives; None where it gives none."""
    text = getattr(job.params, "settings", None)
    if isinstance(text, str):
        return json.loads(text)
    recipe = getattr(job.params, "recipe", None)
    return None if recipe is None else {"recipe": recipe}


def _disagreements(job: Any) -> list[str]:
    """Why the finished outputs of a Snakemake job are not those of its settings and inputs, by their own records."""
    settings, end = _settings(job), ".settings.json"
    if settings is None:
        return []
    return disagreements((str(path).removesuffix(end) for path in job.output if str(path).endswith(end)), settings)


def decide_by_records() -> None:
    """Let Snakemake run each job again whose outputs' own records differ from its settings or inputs, also where its
    metadata are missing, were cleaned up, or were written anew by `--touch`: they then count as changed params."""
    from snakemake.persistence import ParamsChange, PersistenceBase

    look_again()
    make_dropped_files_again()
    if hasattr(PersistenceBase.params_changed, "by_metadata"):
        return
    has_metadata, by_metadata = PersistenceBase.has_metadata, PersistenceBase.params_changed

    def has_records_or_metadata(self: Any, job: Any) -> bool:
        return has_metadata(self, job) or bool(_disagreements(job))

    def params_changed(self: Any, job: Any, file: Any = None) -> Any:
        change = by_metadata(self, job, file)
        if not change and (reasons := _disagreements(job)):
            return ParamsChange(only_old=set(reasons), files={str(path) for path in job.output})
        return change

    params_changed.by_metadata = by_metadata  # type: ignore[attr-defined]
    PersistenceBase.has_metadata = has_records_or_metadata
    PersistenceBase.params_changed = params_changed


def make_dropped_files_again() -> None:
    """Let Snakemake make a dropped image set again when a job that reads its manifest is due, and else never."""
    from snakemake.jobs import Job as SnakemakeJob

    if hasattr(SnakemakeJob.missing_output, "of_files"):
        return
    of_files = SnakemakeJob.missing_output

    async def missing_output(self: Any, requested: Any) -> Any:
        async for path in of_files(self, requested):
            yield path
        names = set(map(str, requested))
        for path in self.output:
            if str(path) not in names and manifest(str(path)) in names and is_dropped(path):
                yield path

    missing_output.of_files = of_files  # type: ignore[attr-defined]
    SnakemakeJob.missing_output = missing_output


def unfinished_outputs(dag: Any) -> set[str]:
    """Outputs of the jobs of a Snakemake DAG that are due and have not finished."""
    return {str(path) for job in dag.needrun_jobs() for path in job.output}


def _words(reason: Any, job: Any) -> list[str]:
    """Snakemake's reason in plain words."""
    forced = "asked for with --force, --forcerun or --forceall, or left incomplete by a killed run"
    words = [forced] if reason.forced else []
    for kind, paths, most in (
        ("missing", reason.missing_output, 3),
        ("left incomplete by a killed run", reason.incomplete_output, 3),
        ("input changed", reason.updated_input, 3),
        ("input will be made again", reason.updated_input_run, 1),
    ):
        words += [f"{kind}: {_some(paths, most)}"] if paths else []
    words += (_disagreements(job) or [SETTINGS_CHANGED]) if reason.params_changed else []
    words += ["the set of its inputs changed"] if reason.input_changed else []
    words += ["its rule changed"] if reason.code_changed else []
    return words or (["Snakemake plans it"] if reason else [])


def _some(paths: Any, most: int) -> str:
    names = sorted(str(path) for path in paths if not is_record(str(path))) or sorted(map(str, paths))
    return format_some(names, most)


def _adopt(workflow: Any) -> None:
    """Tell Snakemake how finished outputs were made whose own records agree with their jobs, where it does not know."""
    from snakemake.settings.types import ExecutionSettings

    workflow.execution_settings = workflow.execution_settings or ExecutionSettings()
    for job in workflow.dag.jobs:
        here = (os.path.exists(path) or is_dropped(path) for path in job.output)
        is_finished = _settings(job) is not None and all(here)
        if is_finished and not workflow.dag.reason(job) and workflow.dag.reason(job).no_metadata:
            workflow.async_run(workflow.persistence.finished(job))


def plan_jobs(root: Path, config: dict[str, Any], targets: tuple[str, ...] = TARGETS, adopt: bool = False) -> list[Job]:
    """The jobs of the graph of the project in `root`, judged as a run with profiles/default would judge them.

    Runs nothing and writes nothing but Snakemake's own folder. adopt: write Snakemake's metadata of finished jobs where
    they are lost. Raises ValueError with Snakemake's message.
    """
    from snakemake.api import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings, SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import RerunTrigger

    decide_by_records()
    _PLANNING.append(root)
    here, level = Path.cwd(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
                workflow = api.workflow(
                    resource_settings=ResourceSettings(cores=1),
                    config_settings=ConfigSettings(config=dict(config)),
                    snakefile=root / "Snakefile",
                    workdir=root,
                )
                workflow.dag(
                    DAGSettings(
                        targets=set(targets),
                        rerun_triggers=frozenset({RerunTrigger.MTIME, RerunTrigger.PARAMS, RerunTrigger.INPUT}),
                        max_checksum_file_size=100_000_000_000,
                        force_incomplete=True,
                    )
                )
                graph = workflow._workflow  # noqa: SLF001 the API prints plans, but does not return them
                graph._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True, nolock=True)
                graph._build_dag()
                if adopt:
                    _adopt(graph)
                return jobs_of(graph.dag)
        except Exception as error:  # noqa: BLE001 Snakemake's errors have no common base but Exception
            raise ValueError(f"snakemake: the graph cannot be planned: {' '.join(str(error).split())}") from error
        finally:
            logging.disable(level)
            os.chdir(here)
            _PLANNING.pop()


def is_planning() -> bool:
    """Whether this process only asks for the plan of a graph, and runs nothing of it."""
    return bool(_PLANNING)


# --- Snakemake's metadata: what it knows of each output, in .snakemake/metadata -------------------------------------
def metadata_path(root: Path, output: str) -> Path:
    """Where Snakemake keeps what it knows of an output (its file persistence, record format 6)."""
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[i : i + _NAME_MAX] for i in range(0, len(name), _NAME_MAX)]
    return root.joinpath(".snakemake", "metadata", *(f"@{part}" for part in parts[:-1]), parts[-1])


@dataclass(frozen=True)
class Metadata:
    """What Snakemake knows of an output, without a path of this machine or a random hash of a process."""

    job: dict[str, Any]  # what its decisions rest on
    started: float  # when the job started [seconds since the epoch]
    ended: tuple[float, ...]  # when the file and its two records, where it has them, were finished


def read_metadata(root: Path, output: str) -> Metadata | None:
    """What Snakemake knows of an output; None where it knows nothing."""
    own = read_json_or_empty(metadata_path(root, output))
    if not own:
        return None
    beside = (read_json_or_empty(metadata_path(root, str(of(output)))) for of in (settings_path, run_path))
    contents = [own, *filter(None, beside)]
    return Metadata(
        job={key: own.get(key) for key in _KEPT},
        started=min(content["starttime"] for content in contents),
        ended=tuple(content["endtime"] for content in contents),
    )


def write_metadata(root: Path, output: str, job: dict[str, Any], started: float, ended: float) -> None:
    """Tell Snakemake what it knew of an output when this was recorded; drop a mark that it is incomplete."""
    path = metadata_path(root, output)
    content = json.dumps({**job, "starttime": started, "endtime": ended, "incomplete": False})
    if not path.exists() or path.read_text() != content:
        write_text(path, content)
    incomplete = root / ".snakemake" / "incomplete"
    incomplete.mkdir(exist_ok=True)  # without it Snakemake takes the metadata for an older version's
    (incomplete / path.relative_to(root / ".snakemake" / "metadata")).unlink(missing_ok=True)
