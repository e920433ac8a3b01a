# Figures: numbers and pictures of each dataset, from its images and latents.
for _figure in PLAN.figures_of("box-plots"):

    rule:
        name:
            rule_name("figures", _figure)
        input:
            images=manifest(PATHS.images("{dataset}", "train")),
            latents=lambda wildcards: stage_files.latents(
                PLAN, wildcards.dataset, "latents.safetensors"
            ),
            statistics=lambda wildcards: stage_files.latents(
                PLAN, wildcards.dataset, "statistics.safetensors"
            ),
        output:
            numbers=PATHS.figure(_figure, "{dataset}", "json"),
            pictures=[
                report(
                    PATHS.figure(_figure, "{dataset}", kind),
                    caption="../report/figures.rst",
                    category="Figures",
                    labels={"figure": _figure, "dataset": "{dataset}", "format": kind},
                )
                for kind in PICTURES
            ],
            records=records(
                *(
                    PATHS.figure(_figure, "{dataset}", kind)
                    for kind in ("json", *PICTURES)
                )
            ),
        log:
            PATHS.log("figures", _figure, "{dataset}.log"),
        benchmark:
            PATHS.log("figures", _figure, "{dataset}.tsv")
        conda:
            "../envs/lct.yaml"
        threads: 1
        resources:
            **resource_class("gpu_train", "figure", _figure),
        params:
            settings=settings_param("figure", _figure),
            work=PATHS.work_figure(_figure, "{dataset}"),
        shell:
            LAUNCH
            + " figure1 --settings {params.settings:q} --images {input.images:q}"
            " --latents {input.latents:q} --statistics {input.statistics:q} --work {params.work:q}"
            " --out {output.numbers:q} --pictures {output.pictures:q} 2> {log:q}"


# Figures that need latents alone; which program makes one follows from its kind.
PROGRAMS = {"losses": "figure2", "couplings": "figure3"}

for _figure in PLAN.figures_of(*PROGRAMS):

    rule:
        name:
            rule_name("figures", _figure)
        input:
            latents=lambda wildcards: stage_files.latents(
                PLAN, wildcards.dataset, "latents.safetensors"
            ),
            statistics=lambda wildcards: stage_files.latents(
                PLAN, wildcards.dataset, "statistics.safetensors"
            ),
        output:
            numbers=PATHS.figure(_figure, "{dataset}", "json"),
            pictures=[
                report(
                    PATHS.figure(_figure, "{dataset}", kind),
                    caption="../report/figures.rst",
                    category="Figures",
                    labels={"figure": _figure, "dataset": "{dataset}", "format": kind},
                )
                for kind in PICTURES
            ],
            records=records(
                *(
                    PATHS.figure(_figure, "{dataset}", kind)
                    for kind in ("json", *PICTURES)
                )
            ),
        log:
            PATHS.log("figures", _figure, "{dataset}.log"),
        benchmark:
            PATHS.log("figures", _figure, "{dataset}.tsv")
        conda:
            "../envs/lct.yaml"
        threads: 1
        resources:
            **resource_class("cpu", "figure", _figure),
        params:
            settings=settings_param("figure", _figure),
            program=PROGRAMS[PLAN.figures[_figure][0].kind],
        shell:
            "python -m lct.jobs.{params.program} --settings {params.settings:q} --latents {input.latents:q}"
            " --statistics {input.statistics:q} --out {output.numbers:q} --pictures {output.pictures:q} 2> {log:q}"
