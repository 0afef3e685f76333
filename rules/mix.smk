# Clips, splits and mixtures. A mixture is a row of a table; its samples are rendered where they are needed.
EXTRACT = {key: config["envmix"][key] for key in ("sample_rate_hz", "clip_s", "max_missing_s")}
MIX_KEYS = ("test_share", "anomalous_share")


rule extract_backgrounds:
    input:
        archive=f"{RESULTS}/archives/urbansound8k.json",
        index=f"{RESULTS}/index/urbansound8k.tsv",
    output:
        audio=f"{RESULTS}/clips/envmix/{{category}}/backgrounds.npy",
        table=f"{RESULTS}/clips/envmix/{{category}}/backgrounds.tsv",
        skipped=f"{RESULTS}/clips/envmix/{{category}}/skipped.tsv",
    log:
        f"{RESULTS}/logs/extract_backgrounds/envmix/{{category}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_backgrounds/envmix/{{category}}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=2000,
        on_bad_clip=config["envmix"]["on_bad_clip"],
        max_member_mb=config["download"]["max_member_mb"],
    params:
        settings=lambda wildcards: {
            "category": wildcards.category,
            **EXTRACT,
        },
        code=code("extract_backgrounds", "torch"),
    script:
        "../workflow_scripts/extract_backgrounds.py"


rule extract_events:
    input:
        archive=f"{RESULTS}/archives/esc50.json",
        index=f"{RESULTS}/index/esc50.tsv",
    output:
        audio=f"{RESULTS}/clips/envmix/events.npy",
        table=f"{RESULTS}/clips/envmix/events.tsv",
        skipped=f"{RESULTS}/clips/envmix/events.skipped.tsv",
    log:
        f"{RESULTS}/logs/extract_events/envmix.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_events/envmix.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=2000,
        on_bad_clip=config["envmix"]["on_bad_clip"],
        max_member_mb=config["download"]["max_member_mb"],
    params:
        settings={
            "categories": config["envmix"]["events"],
            **EXTRACT,
        },
        code=code("extract_events", "torch"),
    script:
        "../workflow_scripts/extract_events.py"


rule split_clips:
    input:
        f"{RESULTS}/clips/envmix/{{category}}/backgrounds.tsv",
    output:
        f"{RESULTS}/splits/{{protocol}}/envmix/{{category}}/seed{{seed}}.tsv",
    log:
        f"{RESULTS}/logs/split_clips/{{protocol}}/envmix/{{category}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/split_clips/{{protocol}}/envmix/{{category}}/seed{{seed}}.tsv"
    conda:
        "../envs/audio.yaml"
    params:
        settings=lambda wildcards: {
            "protocol": wildcards.protocol,
            "category": wildcards.category,
            "seed": int(wildcards.seed),
            **{key: config["envmix"][key] for key in MIX_KEYS},
        },
        code=code("split_clips", "audio"),
    script:
        "../workflow_scripts/split_clips.py"


rule split_recordings:
    input:
        recordings_index,
    output:
        f"{RESULTS}/splits/{{protocol}}/mimii/{{category}}/snr{{snr}}/seed{{seed}}.tsv",
    log:
        f"{RESULTS}/logs/split_recordings/{{protocol}}/mimii/{{category}}/snr{{snr}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/split_recordings/{{protocol}}/mimii/{{category}}/snr{{snr}}/seed{{seed}}.tsv"
    conda:
        "../envs/audio.yaml"
    params:
        settings=lambda wildcards: {
            "protocol": wildcards.protocol,
            "category": wildcards.category,
            "seed": int(wildcards.seed),
            "contaminated": is_contaminated(wildcards),
        },
        code=code("split_recordings", "audio"),
    script:
        "../workflow_scripts/split_recordings.py"


rule synthesize_mixtures:
    input:
        split=f"{RESULTS}/splits/{{protocol}}/envmix/{{category}}/seed{{seed}}.tsv",
        background_table=f"{RESULTS}/clips/envmix/{{category}}/backgrounds.tsv",
        backgrounds=f"{RESULTS}/clips/envmix/{{category}}/backgrounds.npy",
        event_table=f"{RESULTS}/clips/envmix/events.tsv",
        events=f"{RESULTS}/clips/envmix/events.npy",
    output:
        f"{RESULTS}/mixtures/{{protocol}}/envmix/{{category}}/snr{{snr}}/seed{{seed}}.tsv",
    log:
        f"{RESULTS}/logs/synthesize_mixtures/{{protocol}}/envmix/{{category}}/snr{{snr}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/synthesize_mixtures/{{protocol}}/envmix/{{category}}/snr{{snr}}/seed{{seed}}.tsv"
    conda:
        "../envs/audio.yaml"
    params:
        settings=lambda wildcards: {
            "protocol": wildcards.protocol,
            "category": wildcards.category,
            "snr_db": int(wildcards.snr),
            "seed": int(wildcards.seed),
        },
        code=code("synthesize_mixtures", "audio"),
    script:
        "../workflow_scripts/synthesize_mixtures.py"
