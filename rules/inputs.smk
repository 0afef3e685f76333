# No rules here: where the inputs of a rule come from, and what it may use. Functions of wildcards only.


# --- download


def synthetic_table(wildcards):
    """Synthetic archives stand in for the data sets, never for weights."""
    is_data_set = wildcards.archive in ("urbansound8k", "esc50")
    return rules.synthesize_archives.output[2] if config["synthetic"] and is_data_set else []


def mirror_of(wildcards):
    """Folder to take the archive from, "" for the network: a mirror need not hold everything."""
    if synthetic_table(wildcards):
        return f"{RESULTS}/synthetic"
    mirror, row = config["mirror"], ARCHIVES[wildcards.archive]
    return mirror if mirror and (row.name in MIRRORED or Path(mirror, row.file).exists()) else ""


# --- mix


def listening_examples():
    figures = config["figures"]
    return expand(
        f"{LISTENING}/{{n}}_{{stem}}.wav",
        protocol=config["protocols"],
        category=figures["example_categories"],
        snr=figures["example_snr_db"],
        seed=figures["example_seed"],
        n=range(config["listening"]["count"]),
        stem=["mixture", "background", "event"],
    )


# --- embed


def normal_set_table(wildcards):
    """The table that says which clips, at which gains, make a set of normal clips."""
    if wildcards.set_dir:
        directory = (
            f"{RESULTS}/mixtures/{wildcards.protocol}/{wildcards.dataset}/{wildcards.category}"
        )
        return f"{directory}/{wildcards.set_dir.rstrip('/')}.tsv"
    return f"{RESULTS}/clips/{wildcards.dataset}/{wildcards.category}/backgrounds.tsv"


def front_end_settings(wildcards):
    return {
        "front_end": encoder_settings(wildcards.encoder)["front_end"],
        "clip_rate_hz": config["envmix"]["sample_rate_hz"],
    }


def kept(path):
    """A cache that goes when its last reader has finished, if the config says so."""
    return path if config["embeddings"]["keep"] else temp(path)


# --- detect


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
    return lambda w: (
        embedding_files(set_of(w, kind), w.encoder) if uses(w.method, "embeddings") else []
    )


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


# --- evaluate


def current_code():
    """Digest of the code that an up-to-date row was evaluated with."""
    return fingerprint_digest(code("evaluate", "audio"))


def current_score_code():
    """Digest of the code that an up-to-date score was computed with, per method."""
    return {
        method: fingerprint_digest(code("score_clips", "torch", detector_modules(method)))
        for method in DETECTOR_NAMES
    }


# --- paper


def shown_methods():
    """Methods, and the controls that listen: what they find is what a method has to beat."""
    return config["methods"] + [
        c for c in config["controls"] if DETECTORS[c].needs == ("spectrograms",)
    ]


def shown_scores(wildcards):
    """Score files of the shown methods of one experiment, in config order."""
    experiment = {**dict(wildcards.items()), "method": "{method}"}
    return expand(f"{RESULTS}/scores/{EXPERIMENT.format(**experiment)}.npz", method=shown_methods())


def labels():
    """Names in print; rules that print them depend on them."""
    return {method: DETECTORS[method].label for method in DETECTOR_NAMES}
