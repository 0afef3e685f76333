# Fit one detector per experiment, score its test clips. A leakfree detector never depends on the SNR: its
# training clips are the same for all, so it is fitted once; hence {snr_dir}, empty or "snr0/".
DETECTOR = "{protocol}/{dataset}/{category}/{snr_dir}{encoder}/{method}/seed{seed}"


TRUTH = f"{RESULTS}/truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.npz"


def uses(method, what):
    return what in DETECTORS[method].needs


def train_table(wildcards):
    """Roles of the clips: the split (leakfree) or the experiment's table (published)."""
    stage = "mixtures" if wildcards.snr_dir else "splits"
    directory = f"{RESULTS}/{stage}/{wildcards.protocol}/{wildcards.dataset}/{wildcards.category}"
    return f"{directory}/{wildcards.snr_dir}seed{wildcards.seed}.tsv"


def set_of(wildcards, kind):
    snr = getattr(wildcards, "snr", None) or wildcards.get("snr_dir", "")[3:].rstrip("/")
    names = (wildcards.protocol, wildcards.dataset, wildcards.category, snr, wildcards.seed)
    if kind == "normal":
        return normal_set(*names)
    protocol, dataset, category, snr, seed = names
    return f"{protocol}/{dataset}/{category}/snr{snr}/seed{seed}/{kind}"


def embeddings_of(kind):
    """Input function: the cache of a clip set, if the method reads embeddings."""
    return lambda w: embedding_files(set_of(w, kind), w.encoder) if uses(w.method, "embeddings") else []


def spectrograms_of(kind):
    return lambda w: f"{RESULTS}/spectrograms/{set_of(w, kind)}/{w.encoder}.npy"


def truth_of(wildcards):
    return TRUTH.format(**dict(wildcards.items())) if uses(wildcards.method, "truth") else []


def memory_of(wildcards):
    return 1000 if DETECTORS[wildcards.method].is_control else config["memory_mb"]


def gpu_of(wildcards):
    return 0 if DETECTORS[wildcards.method].is_control else 1


def fitted_detector(wildcards):
    if not DETECTORS[wildcards.method].learns:
        return []
    snr_dir = "" if wildcards.protocol == "leakfree" else f"snr{wildcards.snr}/"
    return f"{RESULTS}/detectors/{DETECTOR}.npz".format(**dict(wildcards.items()), snr_dir=snr_dir)


def threads_of(wildcards):
    return 1 if DETECTORS[wildcards.method].is_control else config["threads"]


rule fit_detector:
    input:
        table=train_table,
        embeddings=embeddings_of("normal"),
        spectrograms=spectrograms_of("normal"),
    output:
        f"{RESULTS}/detectors/{DETECTOR}.npz",
    params:
        settings=lambda wildcards: {**detector_settings(wildcards), "identity": list(wildcards)},
        code=lambda wildcards: code("fit_detector", "torch", detector_modules(wildcards.method)),
    log:
        f"{RESULTS}/logs/fit_detector/{DETECTOR}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit_detector/{DETECTOR}.tsv"
    threads: threads_of
    resources:
        gpu=gpu_of,
        mem_mb=memory_of,
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/fit_detector.py"


rule compute_truth:
    input:
        table=f"{RESULTS}/mixtures/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}.tsv",
        event_spectrograms=(
            f"{RESULTS}/spectrograms/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}/event/{{encoder}}.npy"
        ),
    output:
        TRUTH,
    params:
        settings=lambda wildcards: {
            "front_end": encoder_settings(wildcards.encoder)["front_end"],
            "clip_rate_hz": config["envmix"]["sample_rate_hz"],
            "mask_share": config["metrics"]["mask_share"],
        },
        code=code("compute_truth", "audio"),
    log:
        f"{RESULTS}/logs/compute_truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compute_truth/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/{{encoder}}/seed{{seed}}.tsv"
    conda:
        "../envs/audio.yaml"
    script:
        "../workflow_scripts/compute_truth.py"


rule score_clips:
    input:
        detector=fitted_detector,
        table=f"{RESULTS}/mixtures/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}.tsv",
        normal_embeddings=embeddings_of("normal"),
        mixture_embeddings=embeddings_of("mixture"),
        normal_spectrograms=spectrograms_of("normal"),
        mixture_spectrograms=spectrograms_of("mixture"),
        truth=truth_of,
    output:
        f"{RESULTS}/scores/{EXPERIMENT}.npz",
    params:
        settings=lambda wildcards: {**detector_settings(wildcards), "identity": list(wildcards)},
        code=lambda wildcards: code("score_clips", "torch", detector_modules(wildcards.method)),
    log:
        f"{RESULTS}/logs/score_clips/{EXPERIMENT}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_clips/{EXPERIMENT}.tsv"
    threads: threads_of
    resources:
        gpu=gpu_of,
        mem_mb=memory_of,
    conda:
        "../envs/torch.yaml"
    script:
        "../workflow_scripts/score_clips.py"
