# Sampling: one job per (run, training seed, milestone) writes the images of all its samplers.
for _run in (run for run in PLAN.runs.values() if run.samples is None):
    for _at in PLAN.sampled_milestones(_run.id):
        _images = stage_files.samples(PLAN, _run.id, "{seed}", _at)

        rule:
            name:
                rule_name("sample", _run.id + PLAN.suffix(_run.id, _at))
            input:
                weights=[
                    PATHS.weights(_run.id, "{seed}", name)
                    for name in PLAN.sampled_weights(_run.id, _at)
                ],
                statistics=stage_files.latents(
                    PLAN, _run.dataset, "statistics.safetensors"
                ),
                autoencoder=[
                    f"{PATHS.autoencoder(_run.dataset)}/{name}"
                    for name in AUTOENCODER_FILES
                ],
            output:
                images=_images,
                manifests=[manifest(images) for images in _images],
                grids=[
                    report(
                        grid(images),
                        caption="../report/samples.rst",
                        category="Samples",
                        subcategory=_run.id,
                        labels={
                            "weights": images.split("/")[-3],
                            "sampler": images.split("/")[-2],
                            "seed": "{seed}",
                        },
                    )
                    for images in _images
                ],
                records=records(*_images),
            log:
                run_log("sample", _run.id, _at, "log"),
            benchmark:
                run_log("sample", _run.id, _at, "tsv")
            priority: first_dataset_first(2, _run.dataset, _run.id)
            group:
                evaluation_group(_run.id, _at)
            conda:
                "../envs/lct.yaml"
            resources:
                **resource_class("gpu_small", "sample", _run.id, _at),
            params:
                settings=settings_param("sample", _run.id, _at),
                autoencoder=subpath(
                    lambda wildcards, input: input.autoencoder[0], parent=True
                ),
                train=subpath(lambda wildcards, input: input.weights[0], parent=True),
                folder=subpath(lambda wildcards, output: output.images[0], ancestor=3),
            shell:
                f"{LAUNCH} sample --settings {{params.settings:q}} --train {{params.train:q}}"
                " --statistics {input.statistics:q} --autoencoder {params.autoencoder:q} --out {params.folder:q} 2> {log:q}"


# Images made elsewhere in the place of training and sampling: copied into an image set. First of all, since it can fail.
for _run in (run for run in PLAN.runs.values() if run.samples is not None):
    _images = stage_files.samples(PLAN, _run.id, "{seed}")

    rule:
        name:
            rule_name("take", _run.id)
        output:
            images=_images,
            manifests=[manifest(images) for images in _images],
            grids=[grid(images) for images in _images],
            records=records(*_images),
        log:
            PATHS.log("take", _run.id, "s{seed}.log"),
        benchmark:
            PATHS.log("take", _run.id, "s{seed}.tsv")
        priority: 100
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("cpu"),
        params:
            settings=settings_param("take_samples", _run.id),
        shell:
            "python -m lct.jobs.take_samples --settings {params.settings:q} --out {output.images:q} 2> {log:q}"
