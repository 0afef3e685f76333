# Spectrograms (CPU) and embeddings (GPU) of clip sets. A clip set is a path:
#   leakfree/envmix/siren/normal                    all clips of the class
#   published/envmix/siren/snr0/seed0/normal        published levels differ by SNR and seed
#   leakfree/envmix/siren/snr0/seed0/mixture        anomalous clips (beside it, /event: their event stems alone)
CLIP_SET = "{protocol}/{dataset}/{category}/{set_dir}{kind}"
NORMAL_SET = "{protocol}/{dataset}/{category}/{set_dir}normal"
EXPERIMENT_SET = "{protocol}/{dataset}/{category}/snr{snr}/seed{seed}"


wildcard_constraints:
    set_dir=r"(snr-?\d+/seed\d+/)?",


def normal_set_table(wildcards):
    """The table that says which clips, at which gains, make a set of normal clips."""
    if wildcards.set_dir:
        directory = f"{RESULTS}/mixtures/{wildcards.protocol}/{wildcards.dataset}/{wildcards.category}"
        return f"{directory}/{wildcards.set_dir.rstrip('/')}.tsv"
    return f"{RESULTS}/clips/{wildcards.dataset}/{wildcards.category}/backgrounds.tsv"


def front_end_settings(wildcards):
    return {
        "front_end": encoder_settings(wildcards.encoder)["front_end"],
        "clip_rate_hz": config["envmix"]["sample_rate_hz"],
    }


def kept(path):
    """A cache that goes when its last reader has finished, if the config says so."""
    return path if config["embeddings"]["keep"] else temp(path)


rule compute_normal_spectrograms:
    input:
        table=normal_set_table,
        backgrounds=f"{RESULTS}/clips/{{dataset}}/{{category}}/backgrounds.npy",
    output:
        kept(f"{RESULTS}/spectrograms/{NORMAL_SET}/{{encoder}}.npy"),
    params:
        settings=front_end_settings,
        code=code("compute_normal_spectrograms", "torch"),
    log:
        f"{RESULTS}/logs/compute_normal_spectrograms/{NORMAL_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_normal_spectrograms/{NORMAL_SET}/{{encoder}}.tsv"
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/compute_normal_spectrograms.py"


rule compute_mixture_spectrograms:
    input:
        table=f"{RESULTS}/mixtures/{EXPERIMENT_SET}.tsv",
        backgrounds=f"{RESULTS}/clips/{{dataset}}/{{category}}/backgrounds.npy",
        events=f"{RESULTS}/clips/{{dataset}}/events.npy",
    output:
        mixture=kept(f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/mixture/{{encoder}}.npy"),
        event=kept(f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/event/{{encoder}}.npy"),
    params:
        settings=front_end_settings,
        code=code("compute_mixture_spectrograms", "torch"),
    log:
        f"{RESULTS}/logs/compute_mixture_spectrograms/{EXPERIMENT_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_mixture_spectrograms/{EXPERIMENT_SET}/{{encoder}}.tsv"
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/compute_mixture_spectrograms.py"


rule extract_embeddings:
    input:
        spectrograms=f"{RESULTS}/spectrograms/{CLIP_SET}/{{encoder}}.npy",
        weights=f"{RESULTS}/weights/{{encoder}}.safetensors",
    output:
        cache=kept(f"{RESULTS}/embeddings/{CLIP_SET}/{{encoder}}.npy"),
        description=kept(f"{RESULTS}/embeddings/{CLIP_SET}/{{encoder}}.json"),
    params:
        settings=lambda wildcards: {
            "encoder": encoder_settings(wildcards.encoder),
            "precision": config["embeddings"]["precision"],
        },
        code=code("extract_embeddings", "torch"),
    log:
        f"{RESULTS}/logs/extract_embeddings/{CLIP_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_embeddings/{CLIP_SET}/{{encoder}}.tsv"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=config["memory_mb"],
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/extract_embeddings.py"
