# No rules here: where the inputs of a rule come from, and what it may use. Functions of wildcards only.


# --- download


def synthetic_mimii():
    """Settings of the synthetic MIMII archives; {} where the config does without."""
    if not config["synthetic"] or "mimii" not in config["datasets"]:
        return {}
    keys = ("machine_types", "ids", "snrs_db", "clip_s")
    counts = {key: config["synthetic"][key] for key in ("normal_per_id", "abnormal_per_id")}
    return {**{key: config["mimii"][key] for key in keys}, **counts}


def synthetic_settings():
    keys = ("clips_per_background", "clips_per_event", "seed")
    return {
        **{key: config["synthetic"][key] for key in keys if key in config["synthetic"]},
        "backgrounds": config["envmix"]["backgrounds"],
        "events": config["envmix"]["events"],
        "mimii": synthetic_mimii(),
    }


def synthetic_archives():
    mimii = synthetic_mimii()
    names = ["UrbanSound8K.tar.gz", "ESC-50-master.zip"]
    if mimii:
        names += [f"{snr}_dB_{t}.zip" for snr in mimii["snrs_db"] for t in mimii["machine_types"]]
    return [f"{RESULTS}/synthetic/{name}" for name in names]


def synthetic_table(wildcards):
    """Synthetic archives stand in for the data sets, never for weights."""
    name = wildcards.archive
    is_data_set = name in ("urbansound8k", "esc50") or name.startswith("mimii_")
    return rules.synthesize_archives.output.table if config["synthetic"] and is_data_set else []


def mirror_of(wildcards):
    """Folder to take the archive from, "" for the network: a mirror need not hold everything."""
    if synthetic_table(wildcards):
        return f"{RESULTS}/synthetic"
    mirror, row = config["mirror"], ARCHIVES[wildcards.archive]
    held = mirror and (row.name in MIRRORED or find_in_mirror(mirror, row.file))
    return mirror if held else ""


def excluded_clips(source):
    return config["mimii"]["exclude"] if source.startswith("mimii_") else []


def weights_archive(wildcards):
    if config["weights"] == "random":
        return []
    return f"{RESULTS}/archives/{ENCODERS[wildcards.encoder].weights}.json"


# --- recordings of MIMII


def recordings_source(wildcards):
    """Name of the archive that holds a machine type at an SNR: "mimii_0_dB_fan"."""
    return f"mimii_{wildcards.snr}_dB_{wildcards.category.partition('_id_')[0]}"


def recordings_archive(wildcards):
    return f"{RESULTS}/archives/{recordings_source(wildcards)}.json"


def recordings_index(wildcards):
    return f"{RESULTS}/index/{recordings_source(wildcards)}.tsv"


def recording_settings(wildcards):
    """How recordings are read: the mean of all microphones (published) or the first one (leakfree)."""
    return {
        "category": wildcards.category,
        "channel": 0 if wildcards.protocol == "leakfree" else None,
        **{key: config["mimii"][key] for key in ("sample_rate_hz", "clip_s", "max_missing_s")},
    }


def is_contaminated(wildcards):
    """Training clips hold anomalies too: one early version of the published runs did that."""
    mimii = wildcards.dataset == "mimii" if hasattr(wildcards, "dataset") else True
    return mimii and wildcards.protocol == "published" and config["mimii"]["contaminated"]


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


def front_ends_of(methods, encoder):
    """The front end that each method's maps belong to."""
    own = {m: DETECTORS[m].own_encoder or encoder for m in methods}
    return {m: encoder_settings(name)["front_end"] for m, name in own.items()}


def kept(path):
    """A cache that goes when its last reader has finished, if the config says so."""
    return path if config["embeddings"]["keep"] else temp(path)


# --- detect


def uses(method, what):
    return what in DETECTORS[method].needs


def experiment_table(wildcards):
    """Role, label and place of every clip of an experiment."""
    stage = "mixtures" if wildcards.dataset == "envmix" else "splits"
    experiment = f"{wildcards.protocol}/{wildcards.dataset}/{wildcards.category}/snr{wildcards.snr}"
    return f"{RESULTS}/{stage}/{experiment}/seed{wildcards.seed}.tsv"


def truth_of(wildcards):
    """Truth of mixtures, made from their events; of recordings the table knows the labels, and there is no more."""
    return TRUTH.format(**dict(wildcards.items())) if wildcards.dataset == "envmix" else []


def train_table(wildcards):
    """Roles of the clips: the experiment's table; a split where the detector serves all SNRs."""
    in_mixtures = wildcards.dataset == "envmix" and wildcards.snr_dir
    directory = f"{RESULTS}/{'mixtures' if in_mixtures else 'splits'}/{wildcards.protocol}"
    clips = f"{wildcards.dataset}/{wildcards.category}/{wildcards.snr_dir}seed{wildcards.seed}"
    return f"{directory}/{clips}.tsv"


def set_of(w, *, label):
    snr = getattr(w, "snr", None) or w.get("snr_dir", "")[3:].rstrip("/")
    return clip_set(w.protocol, w.dataset, w.category, snr, w.seed, label=label)


def embeddings_of(w, *, label):
    """The cache of a clip set, if the method reads embeddings."""
    if not uses(w.method, "embeddings"):
        return []
    return embedding_files(set_of(w, label=label), w.encoder)


def spectrograms_of(w, *, label):
    return f"{RESULTS}/spectrograms/{set_of(w, label=label)}/{w.encoder}.npy"


# One function for all inputs of a rule: Snakemake's time goes by their number, and these rules have most jobs.


def fit_inputs(w):
    contaminated = is_contaminated(w)
    return {
        "table": train_table(w),
        "embeddings": embeddings_of(w, label=0),
        "spectrograms": spectrograms_of(w, label=0),
        "abnormal_embeddings": embeddings_of(w, label=1) if contaminated else [],
        "abnormal_spectrograms": spectrograms_of(w, label=1) if contaminated else [],
        "weights": encoder_weights(w, "encoder"),
    }


def score_inputs(w):
    return {
        "detector": fitted_detector(w),
        "table": experiment_table(w),
        "normal_embeddings": embeddings_of(w, label=0),
        "anomalous_embeddings": embeddings_of(w, label=1),
        "normal_spectrograms": spectrograms_of(w, label=0),
        "anomalous_spectrograms": spectrograms_of(w, label=1),
        "truth": truth_of(w) if uses(w.method, "truth") else [],
        "weights": encoder_weights(w, "encoder"),
    }


def faithfulness_inputs(w):
    backgrounds = f"{w.protocol}/envmix/{w.category}/snr{w.snr}/seed{w.seed}/background"
    return {
        "detector": fitted_detector(w),
        "table": experiment_table(w),
        "scores": f"{RESULTS}/scores/{EXPERIMENT}.npz".format(**dict(w.items())),
        "truth": TRUTH.format(**dict(w.items())),
        "normal_embeddings": embeddings_of(w, label=0) if uses(w.method, "train_clips") else [],
        "normal_spectrograms": spectrograms_of(w, label=0),
        "mixture_spectrograms": spectrograms_of(w, label=1),
        "background_spectrograms": f"{RESULTS}/spectrograms/{backgrounds}/{w.encoder}.npy",
        "weights": encoder_weights(w, "embeddings"),  # masked clips are embedded on the way
    }


def event_spectrograms(w):
    """Event stems of mixtures; recordings of MIMII have none."""
    if w.dataset != "envmix":
        return []
    stems = f"{w.protocol}/envmix/{w.category}/snr{w.snr}/seed{w.seed}"
    return f"{RESULTS}/spectrograms/{stems}/event/{w.encoder}.npy"


def encoder_weights(w, need):
    """The encoder itself, for a method that needs it or clips as it embeds them."""
    return f"{RESULTS}/weights/{w.encoder}.safetensors" if uses(w.method, need) else []


def budget_of(wildcards):
    """MiB that a job may fill with data; blocks and batches follow from it, so it is the same at every attempt."""
    is_control = hasattr(wildcards, "method") and DETECTORS[wildcards.method].is_control
    return 1000 if is_control else config["memory_mb"]


def memory_of(wildcards, attempt):
    """MiB that a cluster is asked for: twice as much for a job that was killed."""
    return budget_of(wildcards) * 2 ** (attempt - 1)


def gpu_of(wildcards):
    return 0 if DETECTORS[wildcards.method].is_control else 1


def detector_file(*, protocol, dataset, category, snr, encoder, method, seed):
    snr_dir = "" if (dataset, protocol) == ("envmix", "leakfree") else f"snr{snr}/"
    return f"{RESULTS}/detectors/{protocol}/{dataset}/{category}/{snr_dir}{encoder}/{method}/seed{seed}.npz"


def fitted_detector(wildcards):
    """The detector of an experiment; [] where the job that scores makes its own."""
    return detector_file(**dict(wildcards.items())) if DETECTORS[wildcards.method].learns else []


def threads_of(wildcards):
    return 1 if DETECTORS[wildcards.method].is_control else config["threads"]


# --- paper


def table_files(table):
    """One of the paper's tables in all its groupings, under each protocol."""
    return expand(
        f"{TABLES}/{table}_{{protocol}}{{grouping}}.tsv",
        encoder=config["encoders"],
        protocol=config["protocols"],
        grouping=GROUPINGS[table],
    )


def shown_methods():
    """Methods, and the controls that listen: what they find is what a method has to beat.

    In pictures of clips, only those that work on the encoder's own time and frequency cells.
    """
    listening = [c for c in config["controls"] if DETECTORS[c].needs == ("spectrograms",)]
    return [m for m in config["methods"] if not DETECTORS[m].own_encoder] + listening


def scores_of(methods):
    """Input function: score files of these methods in one experiment, in order."""

    def files(wildcards):
        experiment = dict(wildcards.items())
        own = {m: DETECTORS[m].own_encoder or wildcards.encoder for m in methods}
        return [
            f"{RESULTS}/scores/{EXPERIMENT}.npz".format(
                **{**experiment, "method": method, "encoder": encoder}
            )
            for method, encoder in own.items()
        ]

    return files


def shown_scores(wildcards):
    return scores_of(shown_methods())(wildcards)


def listening_scores(wildcards):
    return scores_of(config["listening"]["methods"])(wildcards)


def labels():
    """Names in print; rules that print them depend on them."""
    return {method: DETECTORS[method].label for method in DETECTOR_NAMES}


def example_experiments():
    """Experiments whose clips are shown and exported: {protocol, dataset, category, snr, seed, encoder}."""
    figures, mimii = config["figures"], config["mimii"]
    snr = figures["example_snr_db"]
    chosen = []
    if "envmix" in config["datasets"]:
        chosen += [
            ("envmix", category, snr, figures["example_seed"])
            for category in figures["example_categories"]
        ]
    if "mimii" in config["datasets"]:
        mimii_snr = snr if snr in mimii["snrs_db"] else mimii["snrs_db"][0]
        chosen += [
            ("mimii", category, mimii_snr, mimii["seeds"][0])
            for category in figures["example_recordings"]
        ]
    names = ("dataset", "category", "snr", "seed")
    return [
        {"protocol": protocol, "encoder": encoder, **dict(zip(names, example, strict=True))}
        for protocol in config["protocols"]
        for encoder in config["encoders"]
        for example in chosen
    ]


def listening_examples():
    """The tables that come with the WAV files; one of them is enough to ask for all."""
    return paths(f"{LISTENING}/{{encoder}}/examples.tsv", example_experiments())


def trained_detectors(encoder):
    """{file: (method, name)} of all detectors of an encoder's tables that trained in epochs."""
    found = {}
    for experiment in experiments(
        methods=tuple(m for m in config["methods"] if DETECTORS[m].trains)
    ):
        if experiment["encoder"] == (DETECTORS[experiment["method"]].own_encoder or encoder):
            path = detector_file(**experiment)
            name = path.removeprefix(f"{RESULTS}/detectors/").removesuffix(".npz")
            found[path] = (experiment["method"], name)
    return found


def picture_settings(wildcards):
    """What every picture of single clips or of one experiment depends on."""
    return {
        "experiment": dict(sorted(wildcards.items())),
        "front_end": encoder_settings(wildcards.encoder)["front_end"],
        "clip_rate_hz": config["envmix"]["sample_rate_hz"],
        "dpi": config["figures"]["dpi"],
        "stamp": STAMP,
        "labels": labels(),
    }


def framework_method():
    """The first method that works on the encoder's embeddings."""
    return next((m for m in config["methods"] if uses(m, "embeddings")), config["methods"][0])


def framework_scores(wildcards):
    return scores_of([framework_method()])(wildcards)


# --- recordings of one's own


# Recordings are no inputs of a rule, since their names may hold what Snakemake takes for patterns, and one that cannot be
# opened would keep all others waiting. What is known of each is a param instead.


@functools.cache
def listing(side):
    return list_recordings(config[side])


def recordings_now(wildcards):
    """{name: what tells that a recording changed} of the folder; read by the job, so it works on these and no others."""
    return recording_stamps(listing(wildcards.side))


def not_used_now(wildcards):
    """{name: why} of what lies in the folder and is left out."""
    return listing(wildcards.side).not_used


def unsorted_folder(wildcards):
    # A function: Snakemake would look for wildcards in the text of a folder's name.
    return config["unsorted"] or "none"


def labels_now():
    """Where labels come from; of a table also its content, so that a change is seen."""
    source = OWN["labels"]
    if source in ("names", "none"):
        return {"labels": source}
    return {"labels": source, "table": hashlib.sha256(Path(source).read_bytes()).hexdigest()}


def recordings_weights(need):
    """Weights of the encoder that recordings are heard with, for a method that needs it or its embeddings."""
    return f"{RESULTS}/weights/{OWN_ENCODER}.safetensors" if uses(OWN["method"], need) else []


def page_assets():
    """{file: hash} of the page's own text, style and script."""
    folder = BASE / "src" / "vision_to_sound" / "monitoring" / "page_assets"
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in sorted(folder.iterdir())
        if path.suffix in (".html", ".css", ".js")
    }
