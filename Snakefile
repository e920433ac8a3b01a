# Regenerates every table of arXiv:2502.01441 at the chosen scale: `snakemake` (mini), or with `--config scale=smoke`.
import gc

from snakemake.utils import min_version

from lct.files import environment  # for what it sets

min_version("9.0")
gc.freeze()  # nearly all objects of a plan live as long as the process


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    all_tables,
    claims,
    unlisted,


rule all:
    default_target: True
    input:
        rules.report_tables.output,


rule all_tables:
    input:
        rules.report_all.output,


# Rows that claims compare, with three training seeds or more: common.smk then plans these alone.
rule claims:
    input:
        rules.report_tables.output,


# What is here and no report shows, such as a further seed of a run: `lct record` records it too.
rule unlisted:
    input:
        listing.unlisted_files(PLAN),


# Tables, sub-tables, rows and runs by name, where the command line has them: `snakemake table1.a`.
for _target in sorted(set(WORDS) & set(target_names(PLAN.cells))):

    rule:
        name:
            _target
        input:
            listing.target_files(PLAN, _target),
        localrule: True


offer_targets(
    workflow,
    lambda: listing.descriptions(PLAN),
    lambda name: listing.unknown_target(PLAN, name),
)


onstart:
    start_alone()


onsuccess:
    close_watchers()
    say_what_is_dropped()
    show_rehearsal()
    record_lineage()
    say_results()
    say_where_the_report_is()


onerror:
    close_watchers()
    say_what_is_dropped()
    render_what_exists()
    show_rehearsal()
    record_lineage()
    say_how_to_go_on()
