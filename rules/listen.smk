# What a detector heard, as WAV: the clip, its stems, the isolated anomaly and the cleaned background.
LISTENING = f"{RESULTS}/listening/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}"
SEPARATED = [
    f"{method}_{part}"
    for method in config["listening"]["methods"]
    for part in ("isolated", "cleaned")
]


rule export_listening_examples:
    input:
        table=f"{RESULTS}/mixtures/{EXPERIMENT_SET}.tsv",
        backgrounds=f"{RESULTS}/clips/{{dataset}}/{{category}}/backgrounds.npy",
        events=f"{RESULTS}/clips/{{dataset}}/events.npy",
        scores=listening_scores,
    output:
        expand(
            f"{LISTENING}/{{encoder}}/{{n}}_{{part}}.wav",
            n=range(config["listening"]["count"]),
            part=["mixture", "background", "event", *SEPARATED],
            allow_missing=True,
        ),
        table=f"{LISTENING}/{{encoder}}/examples.tsv",
    log:
        f"{RESULTS}/logs/export_listening_examples/{EXPERIMENT_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_listening_examples/{EXPERIMENT_SET}/{{encoder}}.tsv"
    wildcard_constraints:
        dataset="envmix",
    conda:
        "../envs/torch.yaml"
    params:
        settings=lambda wildcards: {
            "count": config["listening"]["count"],
            "methods": config["listening"]["methods"],
            "sample_rate_hz": config["envmix"]["sample_rate_hz"],
            "front_ends": front_ends_of(config["listening"]["methods"], wildcards.encoder),
        },
        code=code("export_listening_examples", "torch"),
    script:
        "../workflow_scripts/export_listening_examples.py"


rule export_recording_anomalies:
    input:
        archive=recordings_archive,
        index=recordings_index,
        table=f"{RESULTS}/splits/{EXPERIMENT_SET}.tsv",
        scores=listening_scores,
    output:
        expand(
            f"{LISTENING}/{{encoder}}/{{n}}_{{part}}.wav",
            n=range(config["listening"]["count"]),
            part=["recording", *SEPARATED],
            allow_missing=True,
        ),
        table=f"{LISTENING}/{{encoder}}/examples.tsv",
    log:
        f"{RESULTS}/logs/export_recording_anomalies/{EXPERIMENT_SET}/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_recording_anomalies/{EXPERIMENT_SET}/{{encoder}}.tsv"
    wildcard_constraints:
        dataset="mimii",
    conda:
        "../envs/torch.yaml"
    resources:
        max_member_mb=config["download"]["max_member_mb"],
    params:
        settings=lambda wildcards: {
            "count": config["listening"]["count"],
            "methods": config["listening"]["methods"],
            "front_ends": front_ends_of(config["listening"]["methods"], wildcards.encoder),
            **recording_settings(wildcards),
        },
        code=code("export_recording_anomalies", "torch"),
    script:
        "../workflow_scripts/export_recording_anomalies.py"
