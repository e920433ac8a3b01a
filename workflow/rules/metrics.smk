# Metrics: the extractor, references with the floor rows, and one scoring job per (run, training seed, milestone).
EXTRACTOR = PATHS.extractor("{dataset}", "{extractor}")
EXTRACTOR_SUMMARY = EXTRACTOR.replace(".safetensors", ".summary.json")


rule extractor:
    input:
        train=manifest(PATHS.images("{dataset}", "train")),
        heldout=heldout_images,
    output:
        weights=EXTRACTOR,
        summary=EXTRACTOR_SUMMARY,
        records=records(EXTRACTOR, EXTRACTOR_SUMMARY),
    log:
        PATHS.log("extractor", "{dataset}", "{extractor}.log"),
    benchmark:
        PATHS.log("extractor", "{dataset}", "{extractor}.tsv")
    priority: first_dataset_first(0)
    conda:
        "../envs/lct.yaml"
    resources:
        **resource_class("gpu_small"),
    params:
        settings=settings_param("extractor"),
    shell:
        LAUNCH
        + " extractor --settings {params.settings:q} --train {input.train:q} --heldout {input.heldout:q}"
        " --out {output.weights:q} --summary {output.summary:q} 2> {log:q}"


for _dataset in PLAN.datasets:
    _references = stage_files.references(PLAN, _dataset)
    _floors = stage_files.floors(PLAN, _dataset)

    rule:
        name:
            rule_name("reference", _dataset)
        input:
            train=manifest(PATHS.images(_dataset, "train")),
            heldout=stage_files.heldout(
                PLAN, _dataset, manifest(PATHS.images(_dataset, "heldout"))
            ),
            reconstructed=manifest(
                stage_files.latents(PLAN, _dataset, "reconstructed-train.zip")
            ),
            reconstructed_heldout=stage_files.heldout(
                PLAN,
                _dataset,
                manifest(
                    stage_files.latents(PLAN, _dataset, "reconstructed-heldout.zip")
                ),
            ),
            extractors=stage_files.extractors(PLAN, _dataset).values(),
        output:
            references=_references,
            floors=_floors,
            records=records(*_references, *_floors),
        log:
            PATHS.log("reference", f"{_dataset}.log"),
        benchmark:
            PATHS.log("reference", f"{_dataset}.tsv")
        priority: first_dataset_first(3, _dataset)
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("gpu_small", "reference", _dataset),
        params:
            settings=settings_param("reference", _dataset),
        shell:
            LAUNCH
            + " reference --settings {params.settings:q} --train {input.train:q}"
            " --heldout {input.heldout:q} --reconstructed-train {input.reconstructed:q}"
            " --reconstructed-heldout {input.reconstructed_heldout:q} --extractors {input.extractors:q}"
            " --references {output.references:q} --floors {output.floors:q} 2> {log:q}"


for _dataset in PLAN.datasets:

    rule:
        name:
            rule_name("degraded", _dataset)
        input:
            images=manifest(PATHS.images(_dataset, PLAN.degraded_side(_dataset))),
            references=stage_files.references(PLAN, _dataset),
            extractors=stage_files.extractors(PLAN, _dataset).values(),
        output:
            metrics=PATHS.degraded(_dataset),
            records=records(PATHS.degraded(_dataset)),
        log:
            PATHS.log("degraded", f"{_dataset}.log"),
        benchmark:
            PATHS.log("degraded", f"{_dataset}.tsv")
        priority: first_dataset_first(0, _dataset)
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("gpu_small", "degraded", _dataset),
        params:
            settings=settings_param("degraded", _dataset),
        shell:
            LAUNCH
            + " degraded --settings {params.settings:q} --images {input.images:q}"
            " --references {input.references:q} --extractors {input.extractors:q}"
            " --out {output.metrics:q} 2> {log:q}"


# What `snakemake pilot` reads: the distance of its milestones alone, which needs neither references nor reconstructions.
for _name, _at in PLAN.pilot_milestones:
    _run = PLAN.runs[_name]
    _distances = stage_files.distances(PLAN, _run.id, "{seed}", _at)

    rule:
        name:
            rule_name("distance", _run.id + PLAN.suffix(_run.id, _at))
        input:
            samples=[
                manifest(images)
                for images in stage_files.samples(PLAN, _run.id, "{seed}", _at)
            ],
            train=manifest(PATHS.images(_run.dataset, "train")),
            heldout=stage_files.compared_heldout(PLAN, _run.dataset),
            extractor=stage_files.extractor_of(PLAN, _run.dataset, "distance"),
        output:
            distances=_distances,
            records=records(*_distances),
        log:
            run_log("distance", _run.id, _at, "log"),
        benchmark:
            run_log("distance", _run.id, _at, "tsv")
        priority: first_dataset_first(4, _run.dataset, _run.id)
        conda:
            "../envs/lct.yaml"
        resources:
            **resource_class("gpu_small", "distance", _run.id, _at),
        params:
            settings=settings_param("distance", _run.dataset),
        shell:
            LAUNCH
            + " distance --settings {params.settings:q} --samples {input.samples:q} --train {input.train:q}"
            " --heldout {input.heldout:q} --extractors {input.extractor:q} --distances {output.distances:q} 2> {log:q}"


for _run in PLAN.runs.values():
    for _at in PLAN.sampled_milestones(_run.id):
        _features = stage_files.features(PLAN, _run.id, "{seed}", _at)
        _metrics = stage_files.metrics(PLAN, _run.id, "{seed}", _at)

        rule:
            name:
                rule_name("score", _run.id + PLAN.suffix(_run.id, _at))
            input:
                samples=[
                    manifest(images)
                    for images in stage_files.samples(PLAN, _run.id, "{seed}", _at)
                ],
                references=stage_files.references(PLAN, _run.dataset),
                extractors=stage_files.extractors(PLAN, _run.dataset).values(),
            output:
                features=_features,
                metrics=_metrics,
                records=records(*_features, *_metrics),
            log:
                run_log("score", _run.id, _at, "log"),
            benchmark:
                run_log("score", _run.id, _at, "tsv")
            priority: first_dataset_first(3, _run.dataset, _run.id)
            group:
                evaluation_group(_run.id, _at)
            conda:
                "../envs/lct.yaml"
            resources:
                **resource_class("gpu_small", "score", _run.id, _at),
            params:
                settings=settings_param("score", _run.dataset),
            shell:
                LAUNCH
                + " score --settings {params.settings:q} --samples {input.samples:q}"
                " --features {output.features:q} --metrics {output.metrics:q}"
                " --references {input.references:q} --extractors {input.extractors:q} 2> {log:q}"


for _run in PLAN.runs.values():
    for _at in PLAN.sampled_milestones(_run.id):
        _numbers, _pictures = (
            stage_files.neighbours(PLAN, _run.id, "{seed}", kind, _at)
            for kind in ("json", "png")
        )

        rule:
            name:
                rule_name("neighbours", _run.id + PLAN.suffix(_run.id, _at))
            input:
                samples=[
                    manifest(images)
                    for images in stage_files.first_samples(
                        PLAN, _run.id, "{seed}", _at
                    )
                ],
                train=manifest(PATHS.images(_run.dataset, "train")),
                reference=stage_files.references(PLAN, _run.dataset)[0],
                extractor=stage_files.extractor_of(PLAN, _run.dataset, "recall"),
            output:
                numbers=_numbers,
                pictures=_pictures,
                records=records(*_numbers, *_pictures),
            log:
                run_log("neighbours", _run.id, _at, "log"),
            benchmark:
                run_log("neighbours", _run.id, _at, "tsv")
            priority: first_dataset_first(0, _run.dataset, _run.id)
            conda:
                "../envs/lct.yaml"
            resources:
                **resource_class("gpu_small", "neighbours", _run.id, _at),
            params:
                settings=settings_param("neighbours", _run.dataset),
            shell:
                LAUNCH
                + " neighbours --settings {params.settings:q} --samples {input.samples:q}"
                " --train {input.train:q} --reference {input.reference:q} --extractor {input.extractor:q}"
                " --numbers {output.numbers:q} --pictures {output.pictures:q} 2> {log:q}"
