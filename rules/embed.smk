# Spectrograms (CPU) and embeddings (GPU) of clip sets. A clip set is a path:
#   leakfree/envmix/siren/normal                    all clips of the class
#   published/envmix/siren/snr0/seed0/normal        published levels differ by SNR and seed
#   leakfree/envmix/siren/snr0/seed0/mixture|event  anomalous clips, and their event stems alone
CLIP_SET = "{protocol}/{dataset}/{category}/{set_dir}{kind}"


wildcard_constraints:
    set_dir=r"(snr-?\d+/seed\d+/)?",


def clip_set_table(wildcards):
    """The table that says which clips at which gains make the set."""
    if wildcards.set_dir:
        directory = f"{RESULTS}/mixtures/{wildcards.protocol}/{wildcards.dataset}/{wildcards.category}"
        return f"{directory}/{wildcards.set_dir.rstrip('/')}.tsv"
    return f"{RESULTS}/clips/{wildcards.dataset}/{wildcards.category}/backgrounds.tsv"


def clip_set_audio(wildcards):
    audio = [f"{RESULTS}/clips/{wildcards.dataset}/{wildcards.category}/backgrounds.npy"]
    return audio + ([f"{RESULTS}/clips/{wildcards.dataset}/events.npy"] if wildcards.set_dir else [])


def kept(path):
    """A cache that goes when its last reader has finished, if the config says so."""
    return path if config["embeddings"]["keep"] else temp(path)


rule compute_spectrograms:
    input:
        table=clip_set_table,
        audio=clip_set_audio,
    output:
        kept(f"{RESULTS}/spectrograms/{CLIP_SET}/{{encoder}}.npy"),
    params:
        settings=lambda wildcards: {
            "kind": wildcards.kind,
            "encoder": wildcards.encoder,
            "front_end": encoder_settings(wildcards.encoder)["front_end"],
            "clip_rate_hz": config["envmix"]["sample_rate_hz"],
        },
        code=code("compute_spectrograms", "torch"),
    log:
        f"{RESULTS}/logs/compute_spectrograms/{CLIP_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_spectrograms/{CLIP_SET}/{{encoder}}.tsv"
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/compute_spectrograms.py"


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
    threads: 2
    resources:
        gpu=1,
        mem_mb=config["memory_mb"],
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/extract_embeddings.py"
