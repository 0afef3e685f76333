# Archives and weights: from the network, a mirror or a folder, always checked; then what is in them.
rule synthesize_archives:
    output:
        multiext(f"{RESULTS}/synthetic/", "UrbanSound8K.tar.gz", "ESC-50-master.zip", "datasets.tsv"),
    params:
        settings={
            **config["synthetic"],
            "backgrounds": config["envmix"]["backgrounds"],
            "events": config["envmix"]["events"],
        },
        code=code("synthesize_archives", "audio"),
    log:
        f"{RESULTS}/logs/synthesize_archives.log",
    benchmark:
        f"{RESULTS}/benchmarks/synthesize_archives.tsv"
    conda:
        "../envs/audio.yaml"
    script:
        "../workflow_scripts/synthesize_archives.py"


def synthetic_table(wildcards):
    """Synthetic archives stand in for the data sets, never for weights."""
    is_data_set = wildcards.archive in ("urbansound8k", "esc50")
    return rules.synthesize_archives.output[2] if config["synthetic"] and is_data_set else []


def mirror_of(wildcards):
    """Folder to take the archive from, "" for the network: a mirror need not hold everything."""
    if synthetic_table(wildcards):
        return f"{RESULTS}/synthetic"
    mirror, row = config["mirror"], ARCHIVES[wildcards.archive]
    return mirror if mirror and (row.name in MIRRORED or Path(mirror, row.file).exists()) else ""


# The output is a record (path, size, checksum), not the archive: Snakemake deletes the outputs of jobs that fail
# or run again, and 100 GB are not fetched twice. The code has no part in the params: a checksum proves the file.
rule download_archive:
    input:
        synthetic_table,
    output:
        f"{RESULTS}/archives/{{archive}}.json",
    params:
        settings=lambda wildcards: {
            "row": dataclasses.asdict(ARCHIVES[wildcards.archive]),
            "mirror": mirror_of(wildcards),
        },
    log:
        f"{RESULTS}/logs/download_archive/{{archive}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_archive/{{archive}}.tsv"
    retries: 2
    resources:
        runtime=24 * 60,
        downloads=config["downloads"],
        attempts=config["download"]["attempts"],
        backoff_s=str(config["download"]["backoff_s"]),
        timeout_s=str(config["download"]["timeout_s"]),
    conda:
        "../envs/download.yaml"
    script:
        "../workflow_scripts/download_archive.py"


rule index_dataset:
    input:
        archive=f"{RESULTS}/archives/{{source}}.json",
    output:
        f"{RESULTS}/index/{{source}}.tsv",
    params:
        settings=lambda wildcards: {
            "source": wildcards.source,
            "max_member_mb": config["download"]["max_member_mb"],
        },
        code=code("index_dataset", "audio"),
    log:
        f"{RESULTS}/logs/index_dataset/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/index_dataset/{{source}}.tsv"
    conda:
        "../envs/audio.yaml"
    script:
        "../workflow_scripts/index_dataset.py"


rule extract_weights:
    input:
        lambda wildcards: f"{RESULTS}/archives/{ENCODERS[wildcards.encoder].weights}.json",
    output:
        f"{RESULTS}/weights/{{encoder}}.safetensors",
    params:
        settings=lambda wildcards: encoder_settings(wildcards.encoder),
        code=code("extract_weights", "torch"),
    log:
        f"{RESULTS}/logs/extract_weights/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_weights/{{encoder}}.tsv"
    resources:
        mem_mb=3000,
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/extract_weights.py"
