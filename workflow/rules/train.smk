# Training: one rule per run, because runs keep different (step, EMA) pairs; one job per training seed.
for _run in (run for run in PLAN.runs.values() if run.weights is None):

    rule:
        name:
            rule_name("train", _run.id)
        input:
            latents=stage_files.latents(PLAN, _run.dataset, "latents.safetensors"),
            statistics=stage_files.latents(PLAN, _run.dataset, "statistics.safetensors"),
            init=stage_files.initial(PLAN, _run.id, "{seed}"),
        output:
            weights=[
                PATHS.weights(_run.id, "{seed}", name)
                for name in PLAN.kept_weights(_run.id)
            ],
            curves=f"{PATHS.train(_run.id, '{seed}')}/curves.json",
            records=records(
                f"{PATHS.train(_run.id, '{seed}')}/curves.json",
                *(
                    PATHS.weights(_run.id, "{seed}", name)
                    for name in PLAN.kept_weights(_run.id)
                ),
            ),
        log:
            PATHS.log("train", _run.id, "s{seed}.log"),
        benchmark:
            PATHS.log("train", _run.id, "s{seed}.tsv")
        priority: first_dataset_first(1, _run.dataset)
        conda:
            "../envs/lct.yaml"
        threads: 1
        resources:
            **resource_class("gpu_train", "train", _run.id),
        params:
            settings=settings_param(stage_settings.train(PLAN, _run.id)),
            state=PATHS.work(_run.id, "{seed}"),
            folder=subpath(lambda wildcards, output: output.weights[0], parent=True),
        shell:
            LAUNCH
            + " --nodes {resources.nodes} train --settings {params.settings:q} --seed {wildcards.seed}"
            " --latents {input.latents:q} --statistics {input.statistics:q} --init {input.init:q}"
            " --work {params.state:q} --out {params.folder:q} 2> {log:q}"


# Existing weights in the place of a training: checked, and put where sampling looks for weights, on the submitting host.
for _run in (run for run in PLAN.runs.values() if run.weights is not None):

    rule:
        name:
            rule_name("take", _run.id)
        input:
            weights=_run.weights.file,
        output:
            weights=PATHS.weights(_run.id, "{seed}", _run.weights.name),
            records=records(PATHS.weights(_run.id, "{seed}", _run.weights.name)),
        log:
            PATHS.log("take", _run.id, "s{seed}.log"),
        benchmark:
            PATHS.log("take", _run.id, "s{seed}.tsv")
        localrule: True
        conda:
            "../envs/lct.yaml"
        threads: 1
        resources:
            **resource_class("local"),
        params:
            settings=settings_param(stage_settings.import_weights(PLAN, _run.id)),
        shell:
            "python -m lct.jobs.import_weights --settings {params.settings:q} --weights {input.weights:q}"
            " --out {output.weights:q} 2> {log:q}"
