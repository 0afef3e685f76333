# Archives and weights: from the network, a mirror or a folder, always checked; then what is in them.
rule synthesize_archives:
    output:
        table=f"{RESULTS}/synthetic/datasets.tsv",
        archives=synthetic_archives(),
    log:
        f"{RESULTS}/logs/synthesize_archives.log",
    benchmark:
        f"{RESULTS}/benchmarks/synthesize_archives.tsv"
    conda:
        "../envs/audio.yaml"
    params:
        settings=synthetic_settings(),
        code=code("synthesize_archives", "audio"),
    script:
        "../workflow_scripts/synthesize_archives.py"


# The output is a record (path, size, checksum), not the archive: Snakemake deletes the outputs of jobs that fail
# or run again, and 100 GB are not fetched twice. The code has no part in the params: a checksum proves the file.
rule download_archive:
    input:
        synthetic_table,
    output:
        f"{RESULTS}/archives/{{archive}}.json",
    log:
        f"{RESULTS}/logs/download_archive/{{archive}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_archive/{{archive}}.tsv"
    conda:
        "../envs/download.yaml"
    resources:
        # Where from and how is no part of what is fetched: a change here fetches nothing again.
        runtime=24 * 60,
        table=str(BASE / "config" / "datasets.tsv"),
        mirror=lambda wildcards: mirror_of(wildcards) or "none",
        downloads=config["downloads"],
        attempts=config["download"]["attempts"],
        backoff_s=str(config["download"]["backoff_s"]),
        timeout_s=str(config["download"]["timeout_s"]),
    params:
        settings=lambda wildcards: {
            "record": 2,  # of what kind: records of an earlier one are made again
            **{
                key: getattr(ARCHIVES[wildcards.archive], key)
                for key in ("name", "file", "bytes", "checksum")
            },
        },
    script:
        "../workflow_scripts/download_archive.py"


rule index_dataset:
    input:
        archive=f"{RESULTS}/archives/{{source}}.json",
    output:
        f"{RESULTS}/index/{{source}}.tsv",
    log:
        f"{RESULTS}/logs/index_dataset/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/index_dataset/{{source}}.tsv"
    conda:
        "../envs/audio.yaml"
    resources:
        max_member_mb=config["download"]["max_member_mb"],
    params:
        settings=lambda wildcards: {
            "source": wildcards.source,
            "exclude": excluded_clips(wildcards.source),
        },
        code=code("index_dataset", "audio"),
    script:
        "../workflow_scripts/index_dataset.py"


# With `weights: random` nothing is read, and every table says so.
rule extract_weights:
    input:
        weights_archive,
    output:
        f"{RESULTS}/weights/{{encoder}}.safetensors",
    log:
        f"{RESULTS}/logs/extract_weights/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_weights/{{encoder}}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=3000,
    params:
        settings=lambda wildcards: {
            **encoder_settings(wildcards.encoder),
            "pretrained_or_random": config["weights"],
        },
        code=code("extract_weights", "torch"),
    script:
        "../workflow_scripts/extract_weights.py"
