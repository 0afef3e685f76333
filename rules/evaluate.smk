# From scores and truth to one long table.
rule evaluate:
    input:
        scores=f"{RESULTS}/scores/{EXPERIMENT}.npz",
        truth=TRUTH,
    output:
        f"{RESULTS}/metrics/{EXPERIMENT}.tsv",
    log:
        f"{RESULTS}/logs/evaluate/{EXPERIMENT}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{EXPERIMENT}.tsv"
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=lambda wildcards: {
            "experiment": dict(sorted(wildcards.items())),
            "fpr_limit": config["metrics"]["fpr_limit"],
        },
        code=code("evaluate", "audio"),
    script:
        "../workflow_scripts/evaluate.py"


rule aggregate_metrics:
    input:
        [f"{RESULTS}/metrics/{EXPERIMENT.format(**experiment)}.tsv" for experiment in experiments()],
    output:
        f"{RESULTS}/metrics/all.tsv",
    log:
        f"{RESULTS}/logs/aggregate_metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_metrics.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings={"current_code": current_code(), "score_code": current_score_code()},
        code=code("aggregate_metrics", "paper"),
    script:
        "../workflow_scripts/aggregate_metrics.py"


rule metrics:
    input:
        rules.aggregate_metrics.output,


rule collect_skipped_clips:
    input:
        expand(
            f"{RESULTS}/clips/envmix/{{category}}/skipped.tsv",
            category=config["envmix"]["backgrounds"],
        ),
        f"{RESULTS}/clips/envmix/events.skipped.tsv",
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
