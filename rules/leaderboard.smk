# All detectors and encoders of the config, ranked without leakage, with their costs. Not part of `all`: costs are
# other ones each time they are measured, so they stay out of the tables that end in the same bytes.
LEADERBOARD = f"{RESULTS}/leaderboard"


# Costs come from the logs of jobs. These are no inputs: a log alone is no reason to run again, and what writes one
# writes scores, on which the metrics hang.
rule render_leaderboard:
    input:
        table=rules.aggregate_metrics.output.table,
        draws=rules.aggregate_metrics.output.draws,
    output:
        report(
            f"{LEADERBOARD}/leaderboard.html",
            caption="../report/leaderboard.rst",
            category="Leaderboard",
            labels={"table": "all levels and costs"},
        ),
        report(
            f"{LEADERBOARD}/leaderboard_by_snr_db.html",
            caption="../report/leaderboard.rst",
            category="Leaderboard",
            labels={"table": "per SNR"},
        ),
        expand(
            f"{LEADERBOARD}/leaderboard{{grouping}}.{{suffix}}",
            grouping=["", "_by_snr_db"],
            suffix=["md", "tex"],
        ),
        tsv=f"{LEADERBOARD}/leaderboard.tsv",
    log:
        f"{RESULTS}/logs/render_leaderboard.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_leaderboard.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings={
            "logs": {
                "fit": f"{RESULTS}/logs/fit_detector/{DETECTOR}.log".replace("{snr_dir}", ""),
                "embed": f"{RESULTS}/logs/extract_embeddings/{{protocol}}/{{dataset}}/{{category}}/normal/{{encoder}}.log",
                "score": f"{RESULTS}/logs/score_clips/{EXPERIMENT}.log",
            },
            "stamp": STAMP,
            "labels": labels(),
            "encoder_labels": {
                name: ENCODERS[name].label
                for method in DETECTOR_NAMES
                for name in encoders_of(method)
            },
        },
        code=code("render_leaderboard", "paper"),
    script:
        "../workflow_scripts/render_leaderboard.py"


rule plot_leaderboard:
    input:
        rules.render_leaderboard.output.tsv,
    output:
        report(
            f"{LEADERBOARD}/quality_against_cost_{{level}}.png",
            caption="../report/leaderboard.rst",
            category="Leaderboard",
            labels={"figure": "quality against cost, {level} level"},
        ),
        f"{LEADERBOARD}/quality_against_cost_{{level}}.svg",
    log:
        f"{RESULTS}/logs/plot_leaderboard/{{level}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_leaderboard/{{level}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "level": wildcards.level,
            "dpi": config["figures"]["dpi"],
            "stamp": STAMP,
        },
        code=code("plot_leaderboard", "paper"),
    script:
        "../workflow_scripts/plot_leaderboard.py"


rule leaderboard:
    input:
        leaderboard_files,
