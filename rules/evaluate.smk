# From scores and truth to one long table.


# One job for all SNRs and seeds of a method on a class: evaluating one of them takes less time than starting to.
EVALUATED = "{protocol}/{dataset}/{category}/{encoder}/{method}"


rule evaluate:
    input:
        unpack(evaluate_inputs),
    output:
        metrics=f"{RESULTS}/metrics/{EVALUATED}.tsv",
        draws=f"{RESULTS}/metrics/{EVALUATED}.draws.npz",
    log:
        f"{RESULTS}/logs/evaluate/{EVALUATED}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{EVALUATED}.tsv"
    priority: 40
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=lambda wildcards: {
            "experiments": experiments_of(wildcards),
            **{key: config["metrics"][key] for key in ("fpr_limit", "n_draws", "interval")},
        },
        code=code("evaluate", "audio"),
    script:
        "../workflow_scripts/evaluate.py"


rule aggregate_metrics:
    input:
        metrics=unique(paths(f"{RESULTS}/metrics/{EVALUATED}.tsv", experiments())),
        draws=unique(paths(f"{RESULTS}/metrics/{EVALUATED}.draws.npz", experiments())),
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
