# Training: a chain of jobs, one for each step that a run keeps; each goes on from the state in work/ that the one before
# has left, and publishes the weights of its step, the last one the curve too. One chain per training seed. The weights
# before are an input for the order alone: a job that has lost the state trains again from the last one, to the same bytes.
# Priority: an undivided training starts before others are sampled from and scored, which fills the gaps between trainings; of a
# chain, what it has published is scored before it goes on.
for _run in (run for run in PLAN.runs.values() if run.is_trained):
    for _at in PLAN.milestones(_run.id):
        _names = PLAN.weights_at(_run.id, _at)
        _weights = [PATHS.weights(_run.id, "{seed}", name) for name in _names]
        _curves = stage_files.curves(PLAN, _run.id, "{seed}", _at)

        rule:
            name:
                rule_name("train", _run.id + PLAN.suffix(_run.id, _at))
            input:
                latents=stage_files.latents(PLAN, _run.dataset, "latents.safetensors"),
                statistics=stage_files.latents(
                    PLAN, _run.dataset, "statistics.safetensors"
                ),
                init=stage_files.initial(PLAN, _run.id, "{seed}"),
                before=[
                    ancient(path)
                    for path in stage_files.trained_before(
                        PLAN, _run.id, "{seed}", _at
                    )
                ],
            output:
                weights=_weights,
                curves=_curves,
                records=records(*_curves, *_weights),
            log:
                run_log("train", _run.id, _at, "log"),
            benchmark:
                run_log("train", _run.id, _at, "tsv")
            priority: first_dataset_first(1 if PLAN.suffix(_run.id, _at) else 4, _run.dataset, _run.id)
            conda:
                "../envs/lct.yaml"
            resources:
                **resource_class("gpu_train", "train", _run.id, _at),
            params:
                settings=settings_param("train", _run.id),
                state=PATHS.work(_run.id, "s{seed}"),
                folder=subpath(lambda wildcards, output: output.weights[0], parent=True),
            # A shell command is put together when its job starts: what changes in this loop must not be in it.
            shell:
                LAUNCH
                + " --nodes {resources.nodes} train --settings {params.settings:q} --seed {wildcards.seed}"
                " --latents {input.latents:q} --statistics {input.statistics:q} --init {input.init:q}"
                " --work {params.state:q} --out {params.folder:q} --step {output.weights[0]:q} 2> {log:q}"


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
        resources:
            **resource_class("local"),
        params:
            settings=settings_param("import_weights", _run.id),
        shell:
            "python -m lct.jobs.import_weights --settings {params.settings:q} --weights {input.weights:q}"
            " --out {output.weights:q} 2> {log:q}"
