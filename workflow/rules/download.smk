# Downloads: the files of a network or a dataset, from the first of its origins that gives them. `snakemake
# resources/ID/download.json` fetches one alone. The files themselves are not declared, so that Snakemake leaves the
# part that was received in place and the next run goes on from there.
rule download:
    output:
        download=download("{id}"),
        records=records(download("{id}")),
    log:
        PATHS.log("download", "{id}.log"),
    benchmark:
        PATHS.log("download", "{id}.tsv")
    localrule: True
    conda:
        "../envs/lct.yaml"
    resources:
        **resource_class("local"),
    params:
        settings=download_settings,
    shell:
        "python -m lct.jobs.download --settings {params.settings:q} --out {output.download:q} 2> {log:q}"
