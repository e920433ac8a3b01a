# Images: each dataset's training and held-out side, one file each.
rule images:
    input:
        download=lambda wildcards: stage_files.image_download(PLAN, wildcards.dataset)
        or [],
    output:
        train=PATHS.images("{dataset}", "train"),
        heldout=PATHS.images("{dataset}", "heldout"),
        manifests=[manifest(PATHS.images("{dataset}", side)) for side in IMAGE_SPLITS],
        grid=grid(PATHS.images("{dataset}", "train")),
        records=records(*(PATHS.images("{dataset}", side) for side in IMAGE_SPLITS)),
    log:
        PATHS.log("images", "{dataset}.log"),
    benchmark:
        PATHS.log("images", "{dataset}.tsv")
    priority: first_dataset_first(0)
    conda:
        "../envs/lct.yaml"
    threads: image_threads
    resources:
        **resource_class("cpu", "images"),
    params:
        settings=settings_param("images"),
    shell:
        "python -m lct.jobs.images --settings {params.settings:q}"
        " --download {input.download:q} --workers {threads}"
        " --train {output.train:q} --heldout {output.heldout:q} 2> {log:q}"
