"""What each run has cost: over all attempts, from the records beside its outputs, joined with SLURM's accounting.

Costs differ from machine to machine, so they are no part of tables.json; the report shows them behind the numbers.
"""

from pathlib import Path

from lct.cluster import slurm
from lct.cluster.cost_model import CostModel, PlannedJob
from lct.cluster.rates import card
from lct.files.atomic import read_json_or_empty
from lct.files.costs import JobCost, job_costs
from lct.files.records import run_path
from lct.plan import files as stage_files
from lct.plan.plan import Plan


def costs(plan: Plan, root: Path, runs: list[str]) -> dict[str, str]:
    """Run -> its cost in words, for runs of which anything is recorded."""
    recorded = {run: sum(recorded_jobs(plan, root, run).values(), []) for run in runs}
    accounted = _accounted(
        sorted({slurm_id for jobs in recorded.values() for job in jobs for slurm_id in job.slurm_ids})
    )
    return {run: _sentence(plan, run, jobs, accounted) for run, jobs in recorded.items() if jobs}


def recorded_jobs(plan: Plan, root: Path, run: str) -> dict[PlannedJob, list[JobCost]]:
    """Cost of every training, sampling and scoring of a run that has left records, whole or in parts."""
    recorded = {}
    for job, paths in recorded_outputs(plan, run).items():
        records = (read_json_or_empty(run_path(root / path)) for path in paths)
        if jobs := job_costs(record for record in records if record):
            recorded[job] = jobs
    return recorded


def recorded_outputs(plan: Plan, run: str) -> dict[PlannedJob, list[str]]:
    """Every training, sampling and scoring of a run -> the outputs whose records tell when it was."""
    outputs = {}
    for seed in plan.seeds_of(run):
        for milestone in plan.milestones(run):
            at = milestone if plan.suffix(run, milestone) else None
            if plan.runs[run].is_trained:
                outputs[PlannedJob("train", run, seed, at)] = stage_files.trained(plan, run, seed, milestone)
            outputs[PlannedJob("sample", run, seed, at)] = stage_files.samples(plan, run, seed, milestone)
            outputs[PlannedJob("score", run, seed, at)] = stage_files.metrics(plan, run, seed, milestone)
    return outputs


def _sentence(plan: Plan, run: str, jobs: list[JobCost], accounted: dict[str, list[slurm.JobStart]]) -> str:
    by_slurm = [job for job in jobs if job.slurm_ids and accounted.keys() >= set(job.slurm_ids)]
    by_records = [job for job in jobs if job not in by_slurm]
    starts = [start for slurm_id in {i for job in by_slurm for i in job.slurm_ids} for start in accounted[slurm_id]]
    gpu_hours = sum(start.gpu_hours for start in starts) + sum(job.gpu_seconds for job in by_records) / 3600
    hours = (sum(start.seconds for start in starts) + sum(job.seconds for job in by_records)) / 3600
    attempts = len(starts) + sum(job.attempts for job in by_records)
    source = " and ".join(["SLURM's accounting"] * bool(by_slurm) + ["the jobs' own records"] * bool(by_records))
    seeds = plan.seeds_of(run)
    basis = f"{attempts} starts of jobs, {len(seeds)} training seed{'s' if len(seeds) > 1 else ''}; {source}"
    if not gpu_hours:
        return f"{hours:.3g} h without a GPU ({basis})"
    model = CostModel(plan, card(None))
    expected = model.total(job for seed in seeds for job in model.chain(run, seed))
    estimate = (expected.seconds + expected.assumed) / 3600
    return f"{gpu_hours:.3g} GPU h ({basis}); estimated beforehand, for no GPU in particular: {estimate:.3g}"


def _accounted(slurm_ids: list[str]) -> dict[str, list[slurm.JobStart]]:
    """Job -> its starts in SLURM's accounting; empty where there is none."""
    starts: dict[str, list[slurm.JobStart]] = {}
    if slurm_ids and slurm.has_command("sacct"):
        try:
            for start in slurm.job_starts(slurm_ids):
                starts.setdefault(start.job, []).append(start)
        except slurm.UnansweredError:
            return {}
    return starts
