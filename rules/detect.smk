# Fit one detector per experiment, score its test clips. A leakfree detector of EnvMix never depends on the SNR: its
# training clips are the same for all, so it is fitted once; hence {snr_dir}, empty or "snr0/".
DETECTOR = "{protocol}/{dataset}/{category}/{snr_dir}{encoder}/{method}/seed{seed}"
TRUTH = (
    f"{RESULTS}/truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.npz"
)


# A detector that trains keeps its last finished epoch in results/checkpoints, which is no output: Snakemake
# deletes the outputs of a job that was killed.
rule fit_detector:
    input:
        unpack(fit_inputs),
    output:
        f"{RESULTS}/detectors/{DETECTOR}.npz",
    log:
        f"{RESULTS}/logs/fit_detector/{DETECTOR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_detector/{DETECTOR}.tsv"
    priority: 20
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        gpu=gpu_of,
        mem_mb=memory_of,
        budget_mb=budget_of,
        checkpoint=lambda wildcards: f"{RESULTS}/checkpoints/{DETECTOR}.pt".format(**wildcards),
    params:
        settings=lambda wildcards: {**detector_settings(wildcards), "identity": list(wildcards)},
        code=lambda wildcards: code("fit_detector", "torch", detector_modules(wildcards.method)),
    script:
        "../workflow_scripts/fit_detector.py"


rule compute_truth:
    input:
        table=experiment_table,
        event_spectrograms=f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/event/{{encoder}}.npy",
    output:
        TRUTH,
    log:
        f"{RESULTS}/logs/compute_truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.tsv"
    wildcard_constraints:
        dataset="envmix",
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
        unpack(score_inputs),
    output:
        f"{RESULTS}/scores/{EXPERIMENT}.npz",
    log:
        f"{RESULTS}/logs/score_clips/{EXPERIMENT}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_clips/{EXPERIMENT}.tsv"
    priority: 30
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        gpu=gpu_of,
        mem_mb=memory_of,
        budget_mb=budget_of,
    params:
        settings=lambda wildcards: {**detector_settings(wildcards), "identity": list(wildcards)},
        code=lambda wildcards: code("score_clips", "torch", detector_modules(wildcards.method)),
    script:
        "../workflow_scripts/score_clips.py"


rule measure_faithfulness:
    input:
        unpack(faithfulness_inputs),
    output:
        f"{RESULTS}/faithfulness/{EXPERIMENT}.tsv",
    log:
        f"{RESULTS}/logs/measure_faithfulness/{EXPERIMENT}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_faithfulness/{EXPERIMENT}.tsv"
    wildcard_constraints:
        dataset="envmix",
    priority: 30
    conda:
        "../envs/torch.yaml"
    threads: threads_of
    resources:
        gpu=gpu_of,
        mem_mb=memory_of,
        budget_mb=budget_of,
    params:
        settings=lambda wildcards: {
            **detector_settings(wildcards),
            "identity": list(wildcards),
            "experiment": dict(sorted(wildcards.items())),
            "encoder": encoder_settings(wildcards.encoder),
            "precision": config["embeddings"]["precision"],
            "mask_controls": config["faithfulness"]["mask_controls"],
        },
        code=lambda wildcards: code(
            "measure_faithfulness", "torch", detector_modules(wildcards.method)
        ),
    script:
        "../workflow_scripts/measure_faithfulness.py"
