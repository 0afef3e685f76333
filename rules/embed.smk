# Spectrograms (CPU) and embeddings (GPU) of clip sets. A clip set is a path:
#   leakfree/envmix/siren/normal                    all clips of the class
#   published/envmix/siren/snr0/seed0/normal        published levels differ by SNR and seed
#   leakfree/envmix/siren/snr0/seed0/mixture        anomalous clips (beside it, /event and /background: their stems)
#   leakfree/mimii/fan_id_00/snr0/abnormal          recordings of MIMII; /normal beside it
CLIP_SET = "{protocol}/{dataset}/{category}/{set_dir}{kind}"
NORMAL_SET = "{protocol}/{dataset}/{category}/{set_dir}normal"
EXPERIMENT_SET = "{protocol}/{dataset}/{category}/snr{snr}/seed{seed}"


wildcard_constraints:
    set_dir=r"(snr-?\d+/(seed\d+/)?)?",


rule compute_normal_spectrograms:
    input:
        table=normal_set_table,
        backgrounds=f"{RESULTS}/clips/{{dataset}}/{{category}}/backgrounds.npy",
    output:
        kept(f"{RESULTS}/spectrograms/{NORMAL_SET}/{{encoder}}.npy"),
    log:
        f"{RESULTS}/logs/compute_normal_spectrograms/{NORMAL_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_normal_spectrograms/{NORMAL_SET}/{{encoder}}.tsv"
    wildcard_constraints:
        dataset="envmix",
    conda:
        "../envs/torch.yaml"
    params:
        settings=front_end_settings,
        code=code("compute_normal_spectrograms", "torch"),
    script:
        "../workflow_scripts/compute_normal_spectrograms.py"


rule compute_mixture_spectrograms:
    input:
        table=f"{RESULTS}/mixtures/{EXPERIMENT_SET}.tsv",
        backgrounds=f"{RESULTS}/clips/{{dataset}}/{{category}}/backgrounds.npy",
        events=f"{RESULTS}/clips/{{dataset}}/events.npy",
    output:
        **{
            stem: kept(f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/{stem}/{{encoder}}.npy")
            for stem in ("mixture", "event", "background")
        },
    log:
        f"{RESULTS}/logs/compute_mixture_spectrograms/{EXPERIMENT_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_mixture_spectrograms/{EXPERIMENT_SET}/{{encoder}}.tsv"
    wildcard_constraints:
        dataset="envmix",
    conda:
        "../envs/torch.yaml"
    params:
        settings=front_end_settings,
        code=code("compute_mixture_spectrograms", "torch"),
    script:
        "../workflow_scripts/compute_mixture_spectrograms.py"


# Recordings of one machine and SNR, read from the archive in place: audio is stored nowhere else.
RECORDING_SET = "{protocol}/mimii/{category}/snr{snr}"


rule compute_recording_spectrograms:
    input:
        archive=recordings_archive,
        index=recordings_index,
    output:
        **{
            kind: kept(f"{RESULTS}/spectrograms/{RECORDING_SET}/{kind}/{{encoder}}.npy")
            for kind in ("normal", "abnormal")
        },
    log:
        f"{RESULTS}/logs/compute_recording_spectrograms/{RECORDING_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_recording_spectrograms/{RECORDING_SET}/{{encoder}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        mem_mb=2000,
        max_member_mb=config["download"]["max_member_mb"],
    params:
        settings=lambda wildcards: {
            "front_end": encoder_settings(wildcards.encoder)["front_end"],
            **recording_settings(wildcards),
        },
        code=code("compute_recording_spectrograms", "torch"),
    script:
        "../workflow_scripts/compute_recording_spectrograms.py"


rule extract_embeddings:
    input:
        spectrograms=f"{RESULTS}/spectrograms/{CLIP_SET}/{{encoder}}.npy",
        weights=f"{RESULTS}/weights/{{encoder}}.safetensors",
    output:
        cache=kept(f"{RESULTS}/embeddings/{CLIP_SET}/{{encoder}}.npy"),
        description=kept(f"{RESULTS}/embeddings/{CLIP_SET}/{{encoder}}.json"),
    log:
        f"{RESULTS}/logs/extract_embeddings/{CLIP_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_embeddings/{CLIP_SET}/{{encoder}}.tsv"
    priority: 10
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=memory_of,
        budget_mb=budget_of,
    params:
        settings=lambda wildcards: {
            "encoder": encoder_settings(wildcards.encoder),
            "precision": config["embeddings"]["precision"],
        },
        code=code("extract_embeddings", "torch"),
    script:
        "../workflow_scripts/extract_embeddings.py"
