# From images to latents: the autoencoder (trained here, or taken over), encoding, statistics, reconstructions.
AUTOENCODER = [f"{PATHS.autoencoder('{dataset}')}/{name}" for name in AUTOENCODER_FILES]
ENCODED = PATHS.latents("{dataset}", "{encoding}")
TENSORS = [f"{ENCODED}/{name}" for name in LATENT_FILES]
RECONSTRUCTED = [f"{ENCODED}/{name}.zip" for name in RECONSTRUCTIONS]


rule autoencoder:
    input:
        images=manifest(PATHS.images("{dataset}", "train")),
        source=lambda wildcards: stage_files.autoencoder_sources(
            PLAN, wildcards.dataset
        ),
    output:
        files=AUTOENCODER,
        records=records(*AUTOENCODER),
    log:
        PATHS.log("autoencoder", "{dataset}.log"),
    benchmark:
        PATHS.log("autoencoder", "{dataset}.tsv")
    priority: first_dataset_first(0)
    conda:
        "../envs/lct.yaml"
    resources:
        **resource_class("gpu_small", "autoencoder"),
    params:
        settings=settings_param("autoencoder"),
        folder=subpath(lambda wildcards, output: output.files[0], parent=True),
    shell:
        f"{LAUNCH} autoencoder --settings {{params.settings:q}}"
        " --images {input.images:q} --source {input.source:q} --out {params.folder:q} 2> {log:q}"


rule encode:
    input:
        train=manifest(PATHS.images("{dataset}", "train")),
        heldout=manifest(PATHS.images("{dataset}", "heldout")),
        autoencoder=rules.autoencoder.output.files,
    output:
        tensors=TENSORS,
        reconstructed=RECONSTRUCTED,
        manifests=[manifest(images) for images in RECONSTRUCTED],
        grid=f"{ENCODED}/reconstructions.grid.png",
        records=records(*TENSORS, *RECONSTRUCTED),
    log:
        PATHS.log("latents", "{dataset}", "{encoding}.log"),
    benchmark:
        PATHS.log("latents", "{dataset}", "{encoding}.tsv")
    priority: first_dataset_first(0)
    conda:
        "../envs/lct.yaml"
    resources:
        **resource_class("gpu_small", "encode"),
    params:
        settings=settings_param("encode"),
        autoencoder=subpath(lambda wildcards, input: input.autoencoder[0], parent=True),
        folder=subpath(lambda wildcards, output: output.tensors[0], parent=True),
        work=PATHS.work("encode", "{dataset}"),
    shell:
        LAUNCH
        + " encode --settings {params.settings:q} --train {input.train:q} --heldout {input.heldout:q}"
        " --autoencoder {params.autoencoder:q} --work {params.work:q} --out {params.folder:q} 2> {log:q}"
