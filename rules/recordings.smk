# Recordings of one's own: embed what is new, fit on the normal ones, score the others, and one page of it all.
# Folders are listed when the workflow starts. Embeddings and scored clips lie in folders that are no outputs, one file
# a clip, so that a recording more costs that recording alone (see monitoring/embedding.py, ClipFiles).
RECORDINGS = f"{RESULTS}/recordings"
OWN = config["recordings"]
OWN_ENCODER = DETECTORS[OWN["method"]].own_encoder or OWN["encoder"]


wildcard_constraints:
    side="normal|unsorted",


rule recordings:
    input:
        f"{RECORDINGS}/page.html",
        f"{RECORDINGS}/clips.tsv",


rule embed_recordings:
    input:
        # the length of windows follows from the normal recordings
        normal=lambda w: f"{RECORDINGS}/normal_clips.tsv" if w.side == "unsorted" else [],
        weights=recordings_weights("embeddings"),
    output:
        clips=f"{RECORDINGS}/{{side}}_clips.tsv",
        skipped=f"{RECORDINGS}/{{side}}_skipped.tsv",
    log:
        f"{RESULTS}/logs/embed_recordings/{{side}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed_recordings/{{side}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=memory_of,
        budget_mb=budget_of,
        cache=f"{RECORDINGS}/embeddings",
        # the folder's own name is no reason to run again
        folder=lambda wildcards: config[wildcards.side] or "none",
    params:
        settings=lambda wildcards: {
            **{
                key: OWN[key]
                for key in ("method", "channel", "window_s", "overlap", "clip_s", "on_bad_clip")
            },
            "encoder": encoder_settings(OWN_ENCODER),
            "precision": config["embeddings"]["precision"],
        },
        recordings=recordings_now,
        not_used=not_used_now,
        code=code("embed_recordings", "torch"),
    script:
        "../workflow_scripts/embed_recordings.py"


rule fit_recordings:
    input:
        clips=f"{RECORDINGS}/normal_clips.tsv",
        weights=recordings_weights("encoder"),
    output:
        f"{RECORDINGS}/detector.npz",
    log:
        f"{RESULTS}/logs/fit_recordings.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_recordings.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=memory_of,
        budget_mb=budget_of,
        cache=f"{RECORDINGS}/embeddings",
        checkpoint=f"{RESULTS}/checkpoints/recordings.pt",
    params:
        settings={
            **{
                key: OWN[key]
                for key in (
                    "method",
                    "channel",
                    "overlap",
                    "clip_s",
                    "false_alarm_rate",
                    "held_out_share",
                    "seed",
                )
            },
            "encoder": encoder_settings(OWN_ENCODER),
            "detector": config["detectors"].get(OWN["method"], {}),
            "precision": config["embeddings"]["precision"],
        },
        code=code("fit_recordings", "torch", detector_modules(OWN["method"])),
    script:
        "../workflow_scripts/fit_recordings.py"


rule score_recordings:
    input:
        clips=f"{RECORDINGS}/unsorted_clips.tsv",
        detector=f"{RECORDINGS}/detector.npz",
        weights=recordings_weights("encoder"),
    output:
        clips=f"{RECORDINGS}/clips.tsv",
        regions=f"{RECORDINGS}/regions.tsv",
        metrics=f"{RECORDINGS}/metrics.tsv",
        audacity=directory(f"{RECORDINGS}/audacity"),
    log:
        f"{RESULTS}/logs/score_recordings.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_recordings.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=1,
        mem_mb=memory_of,
        budget_mb=budget_of,
        cache=f"{RECORDINGS}/embeddings",
        scored=f"{RECORDINGS}/scored",
        folder=unsorted_folder,
    params:
        settings=lambda wildcards: labels_now(),
        code=code("score_recordings", "torch", detector_modules(OWN["method"])),
    script:
        "../workflow_scripts/score_recordings.py"


# With `prompts` only: it needs the whole CLAP checkpoint, and the text encoder that msclap fetches by itself.
rule name_anomalies:
    input:
        clips=f"{RECORDINGS}/clips.tsv",
        detector=f"{RECORDINGS}/detector.npz",
        clap=f"{RESULTS}/archives/clap_2022.json",
    output:
        f"{RECORDINGS}/names.tsv",
    log:
        f"{RESULTS}/logs/name_anomalies.log",
    benchmark:
        f"{RESULTS}/benchmarks/name_anomalies.tsv"
    conda:
        "../envs/clap.yaml"
    threads: config["threads"]
    resources:
        scored=f"{RECORDINGS}/scored",
        folder=unsorted_folder,
    params:
        settings={"prompts": OWN["prompts"]},
        code=code("name_anomalies", "clap"),
    script:
        "../workflow_scripts/name_anomalies.py"


rule write_page:
    input:
        clips=f"{RECORDINGS}/clips.tsv",
        regions=f"{RECORDINGS}/regions.tsv",
        metrics=f"{RECORDINGS}/metrics.tsv",
        detector=f"{RECORDINGS}/detector.npz",
        normal=f"{RECORDINGS}/normal_clips.tsv",
        names=f"{RECORDINGS}/names.tsv" if OWN["prompts"] else [],
        skipped=expand(f"{RECORDINGS}/{{side}}_skipped.tsv", side=["normal", "unsorted"]),
    output:
        f"{RECORDINGS}/page.html",
    log:
        f"{RESULTS}/logs/write_page.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_page.tsv"
    conda:
        "../envs/page.yaml"
    threads: config["threads"]
    resources:
        scored=f"{RECORDINGS}/scored",
        folder=unsorted_folder,
    params:
        settings={
            **{key: OWN[key] for key in ("page_clips", "audio_format")},
            "title": OWN["title"]
            or f"Recordings in {to_text(os.path.basename(os.path.abspath(config['unsorted'])))}",
            "stamp": STAMP,
            "label": DETECTORS[OWN["method"]].label,
            "encoder": ENCODERS[OWN_ENCODER].label,
            "assets": page_assets(),  # script and style of the page, which no import shows
        },
        code=code("write_page", "page"),
    script:
        "../workflow_scripts/write_page.py"
