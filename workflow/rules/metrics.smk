# Metrics: the extractor, references with the floor rows, and one scoring job per (run, training seed).
rule extractor:
    input:
        train=manifest(PATHS.images("{dataset}", "train")),
        heldout=heldout_images,
    output:
        weights=PATHS.extractor("{dataset}", "{extractor}"),
        summary=PATHS.extractor("{dataset}", "{extractor}").replace(
            ".safetensors", ".summary.json"
        ),
        records=records(
            PATHS.extractor("{dataset}", "{extractor}"),
            PATHS.extractor("{dataset}", "{extractor}").replace(
                ".safetensors", ".summary.json"
            ),
        ),
    log:
        PATHS.log("extractor", "{dataset}", "{extractor}.log"),
    benchmark:
        PATHS.log("extractor", "{dataset}", "{extractor}.tsv")
    conda:
        "../envs/lct.yaml"
    threads: 1
    resources:
        **resource_class("gpu_small"),
    params:
        settings=dataset_settings("extractor"),
    shell:
        LAUNCH
        + " extractor --settings {params.settings:q} --train {input.train:q} --heldout {input.heldout:q}"
        " --out {output.weights:q} --summary {output.summary:q} 2> {log:q}"


for _dataset in PLAN.datasets:

    rule:
        name:
            rule_name("reference", _dataset)
        input:
            train=manifest(PATHS.images(_dataset, "train")),
            heldout=PLAN.heldout_of(
                _dataset, manifest(PATHS.images(_dataset, "heldout"))
            ),
            reconstructed=manifest(PLAN.latents_of(_dataset, "reconstructed-train.zip")),
            reconstructed_heldout=PLAN.heldout_of(
                _dataset,
                manifest(PLAN.latents_of(_dataset, "reconstructed-heldout.zip")),
            ),
            extractors=PLAN.extractor_files(_dataset),
        output:
            references=PLAN.references_of(_dataset),
            floors=PLAN.floors_of(_dataset),
            records=records(*PLAN.references_of(_dataset), *PLAN.floors_of(_dataset)),
        log:
            PATHS.log("reference", f"{_dataset}.log"),
        benchmark:
            PATHS.log("reference", f"{_dataset}.tsv")
        conda:
            "../envs/lct.yaml"
        threads: 1
        resources:
            **resource_class("gpu_small", "reference", _dataset),
        params:
            settings=settings_param(PLAN.scoring_settings(_dataset)),
        shell:
            LAUNCH
            + " reference --settings {params.settings:q} --train {input.train:q}"
            " --heldout {input.heldout:q} --reconstructed-train {input.reconstructed:q}"
            " --reconstructed-heldout {input.reconstructed_heldout:q} --extractors {input.extractors:q}"
            " --references {output.references:q} --floors {output.floors:q} 2> {log:q}"


for _run in PLAN.runs.values():

    rule:
        name:
            rule_name("score", _run.id)
        input:
            samples=[manifest(images) for images in PLAN.samples_of(_run.id, "{seed}")],
            references=PLAN.references_of(_run.dataset),
            extractors=PLAN.extractor_files(_run.dataset),
        output:
            features=PLAN.features_of(_run.id, "{seed}"),
            metrics=PLAN.metrics_of(_run.id, "{seed}"),
            records=records(
                *PLAN.features_of(_run.id, "{seed}"),
                *PLAN.metrics_of(_run.id, "{seed}"),
            ),
        log:
            PATHS.log("score", _run.id, "s{seed}.log"),
        benchmark:
            PATHS.log("score", _run.id, "s{seed}.tsv")
        priority: 3
        group:
            evaluation_group(_run.id)
        conda:
            "../envs/lct.yaml"
        threads: 1
        resources:
            **resource_class("gpu_small", "score", _run.id),
        params:
            settings=settings_param(PLAN.scoring_settings(_run.dataset)),
        shell:
            LAUNCH
            + " score --settings {params.settings:q} --samples {input.samples:q}"
            " --features {output.features:q} --metrics {output.metrics:q}"
            " --references {input.references:q} --extractors {input.extractors:q} 2> {log:q}"


for _run in PLAN.runs.values():

    rule:
        name:
            rule_name("neighbours", _run.id)
        input:
            samples=[
                manifest(images) for images in PLAN.first_samples_of(_run.id, "{seed}")
            ],
            train=manifest(PATHS.images(_run.dataset, "train")),
            reference=PLAN.references_of(_run.dataset)[0],
            extractor=PLAN.recall_extractor(_run.dataset),
        output:
            numbers=PLAN.neighbours_of(_run.id, "{seed}", "json"),
            pictures=PLAN.neighbours_of(_run.id, "{seed}", "png"),
            records=records(
                *PLAN.neighbours_of(_run.id, "{seed}", "json"),
                *PLAN.neighbours_of(_run.id, "{seed}", "png"),
            ),
        log:
            PATHS.log("neighbours", _run.id, "s{seed}.log"),
        benchmark:
            PATHS.log("neighbours", _run.id, "s{seed}.tsv")
        conda:
            "../envs/lct.yaml"
        threads: 1
        resources:
            **resource_class("gpu_small"),
        params:
            settings=settings_param(PLAN.neighbours_settings(_run.dataset)),
        shell:
            LAUNCH
            + " neighbours --settings {params.settings:q} --samples {input.samples:q}"
            " --train {input.train:q} --reference {input.reference:q} --extractor {input.extractor:q}"
            " --numbers {output.numbers:q} --pictures {output.pictures:q} 2> {log:q}"
