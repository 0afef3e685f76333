# From scores and truth to one long table.
rule evaluate:
    input:
        scores=f"{RESULTS}/scores/{EXPERIMENT}.npz",
        truth=TRUTH,
        table=experiment_table,
    output:
        metrics=f"{RESULTS}/metrics/{EXPERIMENT}.tsv",
        draws=f"{RESULTS}/metrics/{EXPERIMENT}.draws.npz",
    log:
        f"{RESULTS}/logs/evaluate/{EXPERIMENT}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{EXPERIMENT}.tsv"
    priority: 40
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=lambda wildcards: {
            "experiment": dict(sorted(wildcards.items())),
            **{key: config["metrics"][key] for key in ("fpr_limit", "n_draws", "interval")},
        },
        code=code("evaluate", "audio"),
    script:
        "../workflow_scripts/evaluate.py"


rule aggregate_metrics:
    input:
        metrics=paths(f"{RESULTS}/metrics/{EXPERIMENT}.tsv", experiments()),
        draws=paths(f"{RESULTS}/metrics/{EXPERIMENT}.draws.npz", experiments()),
        faithfulness=paths(f"{RESULTS}/faithfulness/{EXPERIMENT}.tsv", faithfulness_experiments()),
    output:
        table=f"{RESULTS}/metrics/all.tsv",
        draws=f"{RESULTS}/metrics/draws.npz",
    log:
        f"{RESULTS}/logs/aggregate_metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_metrics.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings={
            "current_code": current_code(),
            "score_code": current_code_per_method("score_clips"),
            "faithfulness_code": current_code_per_method("measure_faithfulness"),
        },
        code=code("aggregate_metrics", "paper"),
    script:
        "../workflow_scripts/aggregate_metrics.py"


rule metrics:
    input:
        rules.aggregate_metrics.output,


rule collect_skipped_clips:
    input:
        (
            [
                *expand(
                    f"{RESULTS}/clips/envmix/{{category}}/skipped.tsv",
                    category=config["envmix"]["backgrounds"],
                ),
                f"{RESULTS}/clips/envmix/events.skipped.tsv",
            ]
            if "envmix" in config["datasets"]
            else []
        ),
    output:
        report(
            f"{RESULTS}/tables/skipped_clips.tsv",
            caption="../report/skipped_clips.rst",
            category="Data",
            labels={"table": "clips left out"},
        ),
    log:
        f"{RESULTS}/logs/collect_skipped_clips.log",
    benchmark:
        f"{RESULTS}/benchmarks/collect_skipped_clips.tsv"
    conda:
        "../envs/paper.yaml"
    resources:
        on_bad_clip=config["envmix"]["on_bad_clip"],
    params:
        code=code("collect_skipped_clips", "paper"),
    script:
        "../workflow_scripts/collect_skipped_clips.py"
