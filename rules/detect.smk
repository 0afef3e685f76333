# Fit one detector per experiment, score its test clips. A leakfree detector never depends on the SNR: its
# training clips are the same for all, so it is fitted once; hence {snr_dir}, empty or "snr0/".
DETECTOR = "{protocol}/{dataset}/{category}/{snr_dir}{encoder}/{method}/seed{seed}"


TRUTH = (
    f"{RESULTS}/truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.npz"
)


rule fit_detector:
    input:
        table=train_table,
        embeddings=embeddings_of("normal"),
        spectrograms=spectrograms_of("normal"),
    output:
        f"{RESULTS}/detectors/{DETECTOR}.npz",
    log:
        f"{RESULTS}/logs/fit_detector/{DETECTOR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_detector/{DETECTOR}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        gpu=gpu_of,
        mem_mb=memory_of,
    params:
        settings=lambda wildcards: {**detector_settings(wildcards), "identity": list(wildcards)},
        code=lambda wildcards: code("fit_detector", "torch", detector_modules(wildcards.method)),
    script:
        "../workflow_scripts/fit_detector.py"


rule compute_truth:
    input:
        table=f"{RESULTS}/mixtures/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}.tsv",
        event_spectrograms=(
            f"{RESULTS}/spectrograms/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}/event/{{encoder}}.npy"
        ),
    output:
        TRUTH,
    log:
        f"{RESULTS}/logs/compute_truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.tsv"
    conda:
        "../envs/audio.yaml"
    params:
        settings=lambda wildcards: {
            "front_end": encoder_settings(wildcards.encoder)["front_end"],
            "clip_rate_hz": config["envmix"]["sample_rate_hz"],
            "mask_share": config["metrics"]["mask_share"],
        },
        code=code("compute_truth", "audio"),
    script:
        "../workflow_scripts/compute_truth.py"


rule score_clips:
    input:
        detector=fitted_detector,
        table=f"{RESULTS}/mixtures/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}.tsv",
        normal_embeddings=embeddings_of("normal"),
        mixture_embeddings=embeddings_of("mixture"),
        normal_spectrograms=spectrograms_of("normal"),
        mixture_spectrograms=spectrograms_of("mixture"),
        truth=truth_of,
    output:
        f"{RESULTS}/scores/{EXPERIMENT}.npz",
    log:
        f"{RESULTS}/logs/score_clips/{EXPERIMENT}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_clips/{EXPERIMENT}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        gpu=gpu_of,
        mem_mb=memory_of,
    params:
        settings=lambda wildcards: {**detector_settings(wildcards), "identity": list(wildcards)},
        code=lambda wildcards: code("score_clips", "torch", detector_modules(wildcards.method)),
    script:
        "../workflow_scripts/score_clips.py"
