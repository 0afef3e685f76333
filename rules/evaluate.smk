# From scores and truth to one long table.
rule evaluate:
    input:
        scores=f"{RESULTS}/scores/{EXPERIMENT}.npz",
        truth=TRUTH,
    output:
        f"{RESULTS}/metrics/{EXPERIMENT}.tsv",
    params:
        settings=lambda wildcards: {
            "experiment": dict(sorted(wildcards.items())),
            "fpr_limit": config["metrics"]["fpr_limit"],
        },
        code=code("evaluate", "audio"),
    log:
        f"{RESULTS}/logs/evaluate/{EXPERIMENT}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{EXPERIMENT}.tsv"
    resources:
        mem_mb=2000,
    conda:
        "../envs/audio.yaml"
    script:
        "../workflow_scripts/evaluate.py"


def current_code():
    """Digest of the code that an up-to-date row was evaluated with."""
    return fingerprint_digest(code("evaluate", "audio"))


rule aggregate_metrics:
    input:
        [f"{RESULTS}/metrics/{EXPERIMENT.format(**experiment)}.tsv" for experiment in experiments()],
    output:
        f"{RESULTS}/metrics/all.tsv",
    params:
        settings={"current_code": current_code()},
        code=code("aggregate_metrics", "paper"),
    log:
        f"{RESULTS}/logs/aggregate_metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate_metrics.tsv"
    conda:
        "../envs/paper.yaml"
    script:
        "../workflow_scripts/aggregate_metrics.py"


rule metrics:
    input:
        rules.aggregate_metrics.output,


rule collect_skipped_clips:
    input:
        expand(f"{RESULTS}/clips/envmix/{{category}}/skipped.tsv", category=config["envmix"]["backgrounds"]),
        f"{RESULTS}/clips/envmix/events.skipped.tsv",
    output:
        report(
            f"{RESULTS}/tables/skipped_clips.tsv",
            caption="../report/skipped_clips.rst",
            category="Data",
            labels={"table": "clips left out"},
        ),
    params:
        code=code("collect_skipped_clips", "paper"),
    log:
        f"{RESULTS}/logs/collect_skipped_clips.log",
    benchmark:
        f"{RESULTS}/benchmarks/collect_skipped_clips.tsv"
    conda:
        "../envs/paper.yaml"
    script:
        "../workflow_scripts/collect_skipped_clips.py"
