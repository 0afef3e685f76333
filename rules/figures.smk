# The paper's figures. They hang on the metrics table alone, except for pictures of single clips and of training.
SHOWN_CLIPS = [
    "best",
    "typical",
    "worst",
    *(f"clip-{clip}" for clip in config["figures"]["example_clips"]),
]
FIGURES = f"{RESULTS}/figures/{{encoder}}"


wildcard_constraints:
    level="sample|spectrogram|temporal",
    metric="roc|f1|au_pro_published|au_pro_standard",


rule plot_metric_points:
    input:
        rules.aggregate_metrics.output.table,
    output:
        report(
            f"{FIGURES}/points_{{dataset}}_{{level}}_{{metric}}.png",
            caption="../report/metric_points.rst",
            category="Figures",
            subcategory="{encoder}",
            labels={
                "figure": "{dataset}, per class and SNR",
                "level": "{level}",
                "metric": "{metric}",
            },
        ),
        f"{FIGURES}/points_{{dataset}}_{{level}}_{{metric}}.svg",
    log:
        f"{RESULTS}/logs/plot_metric_points/{{encoder}}/{{dataset}}_{{level}}_{{metric}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_metric_points/{{encoder}}/{{dataset}}_{{level}}_{{metric}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "encoder": wildcards.encoder,
            "dataset": wildcards.dataset,
            "level": wildcards.level,
            "metric": wildcards.metric,
            "dpi": config["figures"]["dpi"],
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("plot_metric_points", "paper"),
    script:
        "../workflow_scripts/plot_metric_points.py"


rule plot_protocol_gap:
    input:
        rules.aggregate_metrics.output.table,
    output:
        report(
            f"{FIGURES}/gap_{{dataset}}_{{level}}_{{metric}}.png",
            caption="../report/protocol_gap.rst",
            category="Figures",
            subcategory="{encoder}",
            labels={
                "figure": "{dataset}, published against leakfree",
                "level": "{level}",
                "metric": "{metric}",
            },
        ),
        f"{FIGURES}/gap_{{dataset}}_{{level}}_{{metric}}.svg",
    log:
        f"{RESULTS}/logs/plot_protocol_gap/{{encoder}}/{{dataset}}_{{level}}_{{metric}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_protocol_gap/{{encoder}}/{{dataset}}_{{level}}_{{metric}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "encoder": wildcards.encoder,
            "dataset": wildcards.dataset,
            "level": wildcards.level,
            "metric": wildcards.metric,
            "dpi": config["figures"]["dpi"],
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("plot_protocol_gap", "paper"),
    script:
        "../workflow_scripts/plot_protocol_gap.py"


# Single clips: mixture, event, truth and the map of each method (Figures 1 and 4 of the paper).
rule plot_anomaly_examples:
    input:
        scores=shown_scores,
        truth=truth_of,
        table=experiment_table,
        anomalous=lambda w: f"{RESULTS}/spectrograms/{set_of(w, label=1)}/{w.encoder}.npy",
        events=event_spectrograms,
    output:
        [
            report(
                f"{FIGURES}/examples/{EXPERIMENT_SET}/{clip}.png",
                caption="../report/anomaly_example.rst",
                category="Anomaly maps",
                subcategory="{encoder}",
                labels={
                    "class": "{category}",
                    "protocol": "{protocol}",
                    "SNR": "{snr} dB",
                    "clip": clip,
                },
            )
            for clip in SHOWN_CLIPS
        ],
    log:
        f"{RESULTS}/logs/plot_anomaly_examples/{{encoder}}/{EXPERIMENT_SET}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_anomaly_examples/{{encoder}}/{EXPERIMENT_SET}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            **picture_settings(wildcards),
            "methods": shown_methods(),
            "clips": SHOWN_CLIPS,
        },
        code=code("plot_anomaly_examples", "paper"),
    script:
        "../workflow_scripts/plot_anomaly_examples.py"


rule plot_score_histogram:
    input:
        scores=scores_of(
            config["methods"] + [m for m in shown_methods() if m in config["controls"]]
        ),
        table=experiment_table,
    output:
        report(
            f"{FIGURES}/scores/{EXPERIMENT_SET}.png",
            caption="../report/score_histogram.rst",
            category="Scores",
            subcategory="{encoder}",
            labels={"class": "{category}", "protocol": "{protocol}", "SNR": "{snr} dB"},
        ),
    log:
        f"{RESULTS}/logs/plot_score_histogram/{{encoder}}/{EXPERIMENT_SET}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_score_histogram/{{encoder}}/{EXPERIMENT_SET}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            **picture_settings(wildcards),
            "methods": config["methods"] + [m for m in shown_methods() if m in config["controls"]],
        },
        code=code("plot_score_histogram", "paper"),
    script:
        "../workflow_scripts/plot_score_histogram.py"


# Figure 2: the whole method on one clip, from the waveform to its scores.
rule plot_framework:
    input:
        scores=framework_scores,
        truth=TRUTH,
        table=f"{RESULTS}/mixtures/{EXPERIMENT_SET}.tsv",
        backgrounds=f"{RESULTS}/clips/{{dataset}}/{{category}}/backgrounds.npy",
        events=f"{RESULTS}/clips/{{dataset}}/events.npy",
        mixtures=f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/mixture/{{encoder}}.npy",
        embeddings=lambda w: embedding_files(set_of(w, label=1), w.encoder),
    output:
        report(
            f"{FIGURES}/framework/{EXPERIMENT_SET}.png",
            caption="../report/framework.rst",
            category="Figures",
            subcategory="{encoder}",
            labels={
                "figure": "framework (Figure 2)",
                "class": "{category}",
                "protocol": "{protocol}",
            },
        ),
        f"{FIGURES}/framework/{EXPERIMENT_SET}.svg",
    log:
        f"{RESULTS}/logs/plot_framework/{{encoder}}/{EXPERIMENT_SET}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_framework/{{encoder}}/{EXPERIMENT_SET}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            **picture_settings(wildcards),
            "method": framework_method(),
            "clip": "best",
            "encoder_label": ENCODERS[wildcards.encoder].label,
        },
        code=code("plot_framework", "paper"),
    script:
        "../workflow_scripts/plot_framework.py"


# Figure 3: how the truth of a clip is made from its event.
rule plot_ground_truth:
    input:
        truth=TRUTH,
        table=f"{RESULTS}/mixtures/{EXPERIMENT_SET}.tsv",
        mixtures=f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/mixture/{{encoder}}.npy",
        events=f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/event/{{encoder}}.npy",
    output:
        report(
            f"{FIGURES}/ground_truth/{EXPERIMENT_SET}.png",
            caption="../report/ground_truth.rst",
            category="Figures",
            subcategory="{encoder}",
            labels={
                "figure": "ground truth (Figure 3)",
                "class": "{category}",
                "protocol": "{protocol}",
            },
        ),
        f"{FIGURES}/ground_truth/{EXPERIMENT_SET}.svg",
    log:
        f"{RESULTS}/logs/plot_ground_truth/{{encoder}}/{EXPERIMENT_SET}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_ground_truth/{{encoder}}/{EXPERIMENT_SET}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=picture_settings,
        code=code("plot_ground_truth", "paper"),
    script:
        "../workflow_scripts/plot_ground_truth.py"


rule plot_training_curves:
    input:
        lambda wildcards: list(trained_detectors(wildcards.encoder)),
    output:
        report(
            f"{FIGURES}/training_curves.png",
            caption="../report/training_curves.rst",
            category="Figures",
            subcategory="{encoder}",
            labels={"figure": "training curves"},
        ),
        f"{FIGURES}/training_curves.svg",
    log:
        f"{RESULTS}/logs/plot_training_curves/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_training_curves/{{encoder}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "detectors": [list(names) for names in trained_detectors(wildcards.encoder).values()],
            "encoder": wildcards.encoder,
            "dpi": config["figures"]["dpi"],
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("plot_training_curves", "paper"),
    script:
        "../workflow_scripts/plot_training_curves.py"


EXAMPLES = example_experiments()
MIXTURE_EXAMPLES = [example for example in EXAMPLES if example["dataset"] == "envmix"]


rule figure1:
    input:
        paths(f"{FIGURES}/examples/{EXPERIMENT_SET}/best.png", EXAMPLES),


rule figure2:
    input:
        paths(f"{FIGURES}/framework/{EXPERIMENT_SET}.png", MIXTURE_EXAMPLES),


rule figure3:
    input:
        paths(f"{FIGURES}/ground_truth/{EXPERIMENT_SET}.png", MIXTURE_EXAMPLES),


rule figure4:
    input:
        [
            path
            for clip in SHOWN_CLIPS
            for path in paths(f"{FIGURES}/examples/{EXPERIMENT_SET}/{clip}.png", EXAMPLES)
        ],


rule figures:
    input:
        rules.figure1.input,
        rules.figure2.input,
        rules.figure3.input,
        rules.figure4.input,
        paths(f"{FIGURES}/scores/{EXPERIMENT_SET}.png", EXAMPLES),
        [
            f"{FIGURES}/{figure}_{dataset}_{shown}.png".format(encoder=encoder)
            for encoder in config["encoders"]
            for figure in ("points", "gap")
            for dataset in BENCHMARKS
            for shown in config["figures"]["metrics"]
            if dataset == "envmix" or shown.startswith("sample_")
        ],
        (
            expand(f"{FIGURES}/training_curves.png", encoder=config["encoders"])
            if any(DETECTORS[method].trains for method in config["methods"])
            else []
        ),
