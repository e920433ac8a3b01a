# Regenerates every table of arXiv:2502.01441 at the chosen scale: `snakemake` (mini), or with `--config scale=smoke`.
from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        rules.report.output,


onstart:
    start_alone()


onsuccess:
    say_where_the_report_is()


onerror:
    say_how_to_go_on()
