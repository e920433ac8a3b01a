# Report: one JSON holds every cell; every page and table is rendered from it. Twice: the tables that the scale lists, which
# a bare `snakemake` makes, and those with its further ones, which only `snakemake all_tables` makes.
localrules:
    tables_tables,
    tables_all,
    report_tables,
    report_all,


SHOWN = ("index.html", "evidence.html", "tables.csv")  # by `snakemake --report`
OWN = PATHS.report("").removeprefix(f"reports/{PLAN.scale_name}/")
OPTIONS = " ".join(option_words(PLAN))

for _which in ("tables", "all"):
    _names = (
        *REPORT_FILES,
        *stage_files.row_pages(PLAN, _which),
        *stage_files.report_figures(PLAN),
    )

    rule:
        name:
            f"tables_{_which}"
        input:
            metrics=stage_files.report_metrics(PLAN, _which),
            shown=stage_files.report_inputs(PLAN, _which),
        output:
            tables=PATHS.tables(_which),
            records=records(PATHS.tables(_which)),
        log:
            PATHS.log(f"{OWN}{_which}.log"),
        benchmark:
            PATHS.log(f"{OWN}{_which}.tsv")
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("local"),
        params:
            settings=settings_param("tables", _which),
            sha256=sha256_json(stage_settings.tables(PLAN, _which)),
            scale=PLAN.scale_name,
            options=OPTIONS,
            which=_which,
        shell:
            "python -m lct.jobs.tables --settings-sha256 {params.sha256} --scale {params.scale} --which {params.which}"
            " {params.options} --out {output.tables:q} 2> {log:q}"

    rule:
        name:
            f"report_{_which}"
        input:
            tables=PATHS.tables(_which),
            templates=collect("reports/templates/{name}", name=TEMPLATES),
            evidence=collect("config/evidence/{name}", name=EVIDENCE),
            claims=sorted(map(str, Path("config/claims").glob("*.yaml"))),
            claimed=stage_files.claimed_tables(PLAN),
            shown=stage_files.report_inputs(PLAN, _which),
        output:
            files=[
                (
                    report(
                        PATHS.report(name, _which),
                        caption="../report/tables.rst",
                        category="Tables",
                        labels={"file": name, "tables": _which},
                    )
                    if name in SHOWN
                    else PATHS.report(name, _which)
                )
                for name in _names
            ],
            records=records(*(PATHS.report(name, _which) for name in _names)),
        log:
            PATHS.log(f"{OWN}report-{_which}.log"),
        benchmark:
            PATHS.log(f"{OWN}report-{_which}.tsv")
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("local"),
        params:
            recipe=RECIPES["report"],
            folder=subpath(lambda wildcards, output: output.files[0], parent=True),
            options=OPTIONS,
        shell:
            "python -m lct.jobs.report --tables {input.tables:q} {params.options} --out {params.folder:q} 2> {log:q}"


# The first milestones of a run against the authors' log: `snakemake pilot`. The run goes on from them later.
if PLAN.pilot:

    rule pilot:
        input:
            distances=stage_files.pilot_distances(PLAN),
            log="config/evidence/authors_runs.csv",
            template="reports/templates/pilot.html.jinja",
        output:
            page=PATHS.report("pilot.html"),
            numbers=PATHS.report("pilot.json"),
            records=records(PATHS.report("pilot.html"), PATHS.report("pilot.json")),
        log:
            PATHS.log("pilot.log"),
        benchmark:
            PATHS.log("pilot.tsv")
        localrule: True
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("local"),
        params:
            settings=lambda wildcards: settings_text("pilot"),
            scale=PLAN.scale_name,
        shell:
            "python -m lct.jobs.pilot --settings {params.settings:q} --scale {params.scale}"
            " --out {output.page:q} 2> {log:q}"
