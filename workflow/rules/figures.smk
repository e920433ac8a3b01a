# Figures: numbers and pictures of each dataset, from its images and latents.
def figure_picture(figure, kind):
    return report(
        PATHS.figure(figure, "{dataset}", kind),
        caption="../report/figures.rst",
        category="Figures",
        labels={"figure": figure, "dataset": "{dataset}", "format": kind},
    )


def figure_records(figure):
    kinds = ("json", *PICTURES)
    return records(*(PATHS.figure(figure, "{dataset}", kind) for kind in kinds))


def figure_latents(name):
    return lambda wildcards: stage_files.latents(PLAN, wildcards.dataset, name)


for _figure in PLAN.figures_of("box-plots"):

    rule:
        name:
            rule_name("figures", _figure)
        input:
            images=manifest(PATHS.images("{dataset}", "train")),
            latents=figure_latents("latents.safetensors"),
            statistics=figure_latents("statistics.safetensors"),
        output:
            numbers=PATHS.figure(_figure, "{dataset}", "json"),
            pictures=[figure_picture(_figure, kind) for kind in PICTURES],
            records=figure_records(_figure),
        log:
            PATHS.log("figures", _figure, "{dataset}.log"),
        benchmark:
            PATHS.log("figures", _figure, "{dataset}.tsv")
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("gpu_train", "figure", _figure),
        params:
            settings=settings_param("figure", _figure),
            work=PATHS.work("figures", _figure, "{dataset}"),
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
            latents=figure_latents("latents.safetensors"),
            statistics=figure_latents("statistics.safetensors"),
        output:
            numbers=PATHS.figure(_figure, "{dataset}", "json"),
            pictures=[figure_picture(_figure, kind) for kind in PICTURES],
            records=figure_records(_figure),
        log:
            PATHS.log("figures", _figure, "{dataset}.log"),
        benchmark:
            PATHS.log("figures", _figure, "{dataset}.tsv")
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("cpu", "figure", _figure),
        params:
            settings=settings_param("figure", _figure),
            program=PROGRAMS[PLAN.figures[_figure][0].kind],
        shell:
            "python -m lct.jobs.{params.program} --settings {params.settings:q} --latents {input.latents:q}"
            " --statistics {input.statistics:q} --out {output.numbers:q} --pictures {output.pictures:q} 2> {log:q}"
