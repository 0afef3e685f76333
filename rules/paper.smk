# The paper's tables and figures. They hang on the metrics table alone, except for pictures of single clips.
SHOWN_CLIPS = [
    "best",
    "typical",
    "worst",
    *(f"clip-{clip}" for clip in config["figures"]["example_clips"]),
]
TABLES = f"{RESULTS}/tables/{{encoder}}"
FIGURES = f"{RESULTS}/figures/{{encoder}}"


wildcard_constraints:
    grouping="(_by_snr_db|_by_category)?",
    level="sample|spectrogram|temporal",
    metric="roc|f1|au_pro_published|au_pro_standard",


rule render_table:
    input:
        rules.aggregate_metrics.output,
    output:
        report(
            f"{TABLES}/envmix_{{protocol}}{{grouping}}.html",
            caption="../report/envmix_table.rst",
            category="Tables",
            subcategory="{encoder}",
            labels={"table": "EnvMix{grouping}", "protocol": "{protocol}"},
        ),
        f"{TABLES}/envmix_{{protocol}}{{grouping}}.tsv",
        f"{TABLES}/envmix_{{protocol}}{{grouping}}.md",
        f"{TABLES}/envmix_{{protocol}}{{grouping}}.tex",
    log:
        f"{RESULTS}/logs/render_table/{{encoder}}/envmix_{{protocol}}{{grouping}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_table/{{encoder}}/envmix_{{protocol}}{{grouping}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "protocol": wildcards.protocol,
            "encoder": wildcards.encoder,
            "by": wildcards.grouping.removeprefix("_by_") or None,
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("render_table", "paper"),
    script:
        "../workflow_scripts/render_table.py"


rule compare_with_paper:
    input:
        rules.aggregate_metrics.output,
    output:
        report(
            f"{TABLES}/compare_with_paper.html",
            caption="../report/compare_with_paper.rst",
            category="Tables",
            subcategory="{encoder}",
            labels={"table": "comparison with the paper", "protocol": "both"},
        ),
        f"{TABLES}/compare_with_paper.tsv",
        f"{TABLES}/compare_with_paper.md",
        f"{TABLES}/compare_with_paper.tex",
    log:
        f"{RESULTS}/logs/compare_with_paper/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_with_paper/{{encoder}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "encoder": wildcards.encoder,
            "paper_values": (BASE / "config" / "paper_values.tsv").read_text(),
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("compare_with_paper", "paper"),
    script:
        "../workflow_scripts/compare_with_paper.py"


rule plot_metric_points:
    input:
        rules.aggregate_metrics.output,
    output:
        report(
            f"{FIGURES}/points_{{level}}_{{metric}}.png",
            caption="../report/metric_points.rst",
            category="Figures",
            subcategory="{encoder}",
            labels={"figure": "per class and SNR", "level": "{level}", "metric": "{metric}"},
        ),
        f"{FIGURES}/points_{{level}}_{{metric}}.svg",
    log:
        f"{RESULTS}/logs/plot_metric_points/{{encoder}}/{{level}}_{{metric}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_metric_points/{{encoder}}/{{level}}_{{metric}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "encoder": wildcards.encoder,
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
        rules.aggregate_metrics.output,
    output:
        report(
            f"{FIGURES}/gap_{{level}}_{{metric}}.png",
            caption="../report/protocol_gap.rst",
            category="Figures",
            subcategory="{encoder}",
            labels={
                "figure": "published against leakfree",
                "level": "{level}",
                "metric": "{metric}",
            },
        ),
        f"{FIGURES}/gap_{{level}}_{{metric}}.svg",
    log:
        f"{RESULTS}/logs/plot_protocol_gap/{{encoder}}/{{level}}_{{metric}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_protocol_gap/{{encoder}}/{{level}}_{{metric}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "encoder": wildcards.encoder,
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
        truth=TRUTH,
        table=f"{RESULTS}/mixtures/{EXPERIMENT_SET}.tsv",
        mixtures=f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/mixture/{{encoder}}.npy",
        events=f"{RESULTS}/spectrograms/{EXPERIMENT_SET}/event/{{encoder}}.npy",
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
            "experiment": dict(sorted(wildcards.items())),
            "methods": shown_methods(),
            "clips": SHOWN_CLIPS,
            "front_end": encoder_settings(wildcards.encoder)["front_end"],
            "clip_rate_hz": config["envmix"]["sample_rate_hz"],
            "dpi": config["figures"]["dpi"],
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("plot_anomaly_examples", "paper"),
    script:
        "../workflow_scripts/plot_anomaly_examples.py"


rule plot_score_histogram:
    input:
        scores=shown_scores,
        truth=TRUTH,
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
            "experiment": dict(sorted(wildcards.items())),
            "methods": shown_methods(),
            "dpi": config["figures"]["dpi"],
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("plot_score_histogram", "paper"),
    script:
        "../workflow_scripts/plot_score_histogram.py"


rule tables:
    input:
        expand(
            f"{TABLES}/envmix_{{protocol}}{{grouping}}.tsv",
            encoder=config["encoders"],
            protocol=config["protocols"],
            grouping=["", "_by_snr_db", "_by_category"],
        ),
        expand(f"{TABLES}/compare_with_paper.tsv", encoder=config["encoders"]),
        rules.collect_skipped_clips.output,


rule figures:
    input:
        expand(
            f"{FIGURES}/{{figure}}_{{shown}}.png",
            encoder=config["encoders"],
            figure=["points", "gap"],
            shown=config["figures"]["metrics"],
        ),
        expand(
            [
                *(f"{FIGURES}/examples/{EXPERIMENT_SET}/{clip}.png" for clip in SHOWN_CLIPS),
                f"{FIGURES}/scores/{EXPERIMENT_SET}.png",
            ],
            encoder=config["encoders"],
            protocol=config["protocols"],
            dataset="envmix",
            category=config["figures"]["example_categories"],
            snr=config["figures"]["example_snr_db"],
            seed=config["figures"]["example_seed"],
        ),
