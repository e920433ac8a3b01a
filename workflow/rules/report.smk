# Report: one JSON holds every cell; every page and table is rendered from it.
localrules:
    tables,
    report,


rule tables:
    input:
        metrics=PLAN.all_metrics(),
        shown=PLAN.shown(),
    output:
        tables=PATHS.tables(),
        records=records(PATHS.tables()),
    log:
        PATHS.log("tables.log"),
    benchmark:
        PATHS.log("tables.tsv")
    conda:
        "../envs/lct.yaml"
    resources:
        **resource_class("local"),
    params:
        settings=settings_param({"recipe": RECIPES["tables"], **PLAN.tables_settings()}),
        scale=PLAN.scale_name,
    shell:
        "python -m lct.cli.tables --scale {params.scale} --out {output.tables:q} 2> {log:q}"


rule report:
    input:
        tables=PATHS.tables(),
        templates=collect("reports/templates/{name}", name=TEMPLATES),
    output:
        files=[PATHS.report(name) for name in REPORT_FILES],
        records=records(PATHS.report("index.html")),
    log:
        PATHS.log("report.log"),
    benchmark:
        PATHS.log("report.tsv")
    conda:
        "../envs/lct.yaml"
    resources:
        **resource_class("local"),
    params:
        recipe=RECIPES["report"],
    shell:
        "python -m lct.cli.report --tables {input.tables:q} --files {output.files:q} 2> {log:q}"
