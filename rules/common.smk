# No rules here: paths, checked settings and fingerprints that the other files share.
# Standard library and Snakemake only. Everything from the repository enters a rule through its params, as a
# value (settings) or a content hash (code); everything that is data is an input under results/.
import dataclasses
import functools
import gc
import hashlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
from itertools import product
from pathlib import Path

import yaml
from snakemake.utils import validate

# Folders may have names that are no UTF-8: Snakemake's log file then lacks the line, and the screen stays clean.
logging.raiseExceptions = False
# Thousands of jobs live long; looking through them again and again costs seconds.
gc.set_threshold(100_000, 20, 50)
sys.path.insert(0, str(Path(workflow.basedir) / "src"))  # scripts inherit it

from vision_to_sound import plan
from vision_to_sound.archive_table import find_in_mirror
from vision_to_sound.config_command_line import typed
from vision_to_sound.config_choices import benchmarks_of, checked_config, machines_of
from vision_to_sound.detectors import DETECTORS
from vision_to_sound.dry_run import PlannedJob
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.failures import FailedJob, summary
from vision_to_sound.file_names import to_text
from vision_to_sound.monitoring.listing import list_recordings, recording_stamps
from vision_to_sound.monitoring.results_folder import (
    set_aside_results_of_before,
    summary as results_of_recordings,
)
from vision_to_sound.provenance import fingerprint_digest, stage_fingerprint

BASE = Path(workflow.basedir)
STARTED = time.time()
SCHEMA = BASE / "config" / "schema.yaml"

try:
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    config.update(typed(config, workflow.config_settings.config, schema, arguments=sys.argv[1:]))
    CHECKED = checked_config(config, schema, archive_table=BASE / "config" / "datasets.tsv")
except (ValueError, OSError) as error:
    if not workflow.output_settings.dryrun:
        set_aside_results_of_before(config)  # of other folders
    raise WorkflowError(f"config: {error}") from None
config.update(CHECKED.config)
validate(config, SCHEMA)

ARCHIVES, MIRRORED = CHECKED.archives, CHECKED.mirrored
RESULTS = config["results"]
BENCHMARKS = benchmarks_of(config)
DETECTOR_NAMES = [*config["methods"], *config["controls"]]
STAMP = "; ".join(
    part
    for part in (
        (
            "SYNTHETIC SOUNDS: these numbers say nothing about real recordings"
            if config["synthetic"]
            else ""
        ),
        "RANDOM WEIGHTS: no network was trained" if config["weights"] == "random" else "",
        config["stamp"],
    )
    if part
)
# For the captions of the report.
config["stamp"] = STAMP
config["gpu_found"] = bool(shutil.which("nvidia-smi"))


wildcard_constraints:
    archive="|".join(ARCHIVES),
    source=r"urbansound8k|esc50|mimii_-?\d+_dB_[a-z]+",
    protocol="published|leakfree",
    dataset="envmix|mimii",
    category="[^/]+",
    snr=r"-?\d+",
    snr_dir=r"(snr-?\d+/)?",
    seed=r"\d+",
    encoder="|".join(ENCODERS),
    method="|".join(DETECTORS),
    kind="normal|mixture|abnormal",


@functools.cache
def code(rule_name, env, modules=()):
    """Fingerprint of what the script of a rule runs, for its `code` param."""
    return stage_fingerprint(
        BASE / "workflow_scripts" / f"{rule_name}.py",
        source_root=BASE / "src",
        modules=modules,
        env_file=BASE / "envs" / f"{env}.yaml",
    )


def detector_modules(method):
    """Modules that a registry entry names; the package and the entry's own file."""
    return (DETECTORS[method].target.partition(":")[0],)


def detector_settings(wildcards):
    """Settings of one method for one class, with the row of the registry that describes it."""
    method = wildcards.method
    settings = {
        **config["detectors"].get(method, {}),
        **config["overrides"].get(wildcards.category, {}).get(method, {}),
    }
    if method == "oracle":
        settings["mask"] = wildcards.protocol
    entry = dataclasses.asdict(DETECTORS[method])
    del entry["label"]  # a name in tables and figures; it changes no score
    found = {"entry": entry, "method": method, "detector": settings}
    if "encoder" in DETECTORS[method].needs:
        found["encoder"] = encoder_settings(wildcards.encoder)
    return found


@functools.cache
def encoder_settings(encoder):
    settings = dataclasses.asdict(ENCODERS[encoder])
    del settings["label"]
    return settings


def clip_set(protocol, dataset, category, snr, seed, *, label):
    """Path of the set that holds an experiment's normal (0) or anomalous (1) clips.

    What does not depend on a part of the experiment is shared: leakfree normal clips of EnvMix are embedded
    once for all SNRs and seeds, recordings of MIMII once for all seeds.
    """
    if dataset == "mimii":
        return f"{protocol}/mimii/{category}/snr{snr}/{'abnormal' if label else 'normal'}"
    if label:
        return f"{protocol}/envmix/{category}/snr{snr}/seed{seed}/mixture"
    if protocol == "leakfree":
        return f"leakfree/envmix/{category}/normal"
    return f"published/envmix/{category}/snr{snr}/seed{seed}/normal"


def embedding_files(clip_set, encoder):
    return [f"{RESULTS}/embeddings/{clip_set}/{encoder}.{suffix}" for suffix in ("npy", "json")]


def categories_of(dataset):
    return config["envmix"]["backgrounds"] if dataset == "envmix" else machines_of(config)


def encoders_of(method):
    """Encoders that a method runs on: all of the config's, or the one that is its own."""
    own = DETECTORS[method].own_encoder
    return [own] if own else config["encoders"]


@functools.cache
def experiments(datasets=tuple(BENCHMARKS), methods=tuple(DETECTOR_NAMES)):
    """Wildcards of every experiment that the config asks for, as dicts."""
    names = ("protocol", "dataset", "category", "snr", "encoder", "method", "seed")
    return [
        dict(zip(names, values, strict=True))
        for dataset in datasets
        for method in methods
        for values in product(
            config["protocols"],
            [dataset],
            categories_of(dataset),
            config[dataset]["snrs_db"],
            encoders_of(method),
            [method],
            config[dataset]["seeds"],
        )
    ]


def paths(pattern, experiments):
    return [pattern.format(**experiment) for experiment in experiments]


def unique(values):
    """In the order of their first place."""
    return list(dict.fromkeys(values))


EXPERIMENT = "{protocol}/{dataset}/{category}/snr{snr}/{encoder}/{method}/seed{seed}"


# --- what is evaluated together, and by which code


def experiments_of(wildcards):
    """All SNRs and seeds of a method on a class: experiments that are evaluated by one job."""
    of_dataset = config[wildcards.dataset]
    return [
        {**dict(sorted(wildcards.items())), "snr": str(snr), "seed": str(seed)}
        for snr, seed in product(of_dataset["snrs_db"], of_dataset["seeds"])
    ]


def evaluate_inputs(wildcards):
    stage = {"envmix": "mixtures", "mimii": "splits"}[wildcards.dataset]
    table = f"{RESULTS}/{stage}/{{protocol}}/{{dataset}}/{{category}}/snr{{snr}}/seed{{seed}}.tsv"
    found = experiments_of(wildcards)
    return {
        "scores": paths(f"{RESULTS}/scores/{EXPERIMENT}.npz", found),
        "truths": paths(TRUTH, found) if wildcards.dataset == "envmix" else [],
        "tables": paths(table, found),
    }


def faithfulness_experiments():
    return experiments(
        tuple(d for d in BENCHMARKS if d == "envmix"),
        tuple(config["faithfulness"]["methods"]),
    )


def current_code():
    """Digest of the code that an up-to-date row was evaluated with."""
    return fingerprint_digest(code("evaluate", "audio"))


def current_code_per_method(rule_name):
    """Digest of the code that an up-to-date score or faithfulness was computed with."""
    return {
        method: fingerprint_digest(code(rule_name, "torch", detector_modules(method)))
        for method in DETECTOR_NAMES
    }


def stop_and_say_so(number, frame):
    print(
        "\n  Stopped. All that finished is kept: the same command goes on from there.",
        file=sys.stderr,
    )
    signal.default_int_handler(number, frame)


onstart:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop_and_say_so)
    # Snakemake 9.27 limits jobs per second by a timer that starts itself anew, one more for every job that has ended:
    # each looks through all ready jobs once a second, half a core after 300 jobs. Here no queue needs sparing.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    try:
        plan.check_writable(RESULTS)
    except OSError as error:
        raise WorkflowError(error.strerror) from None
    if workflow.local_exec and not config["gpu_found"]:
        print(
            "\n  NO GPU FOUND on this machine: the stages that would use one run on the CPU.\n",
            file=sys.stderr,
        )
    set_aside_results_of_before(
        config, {str(path) for job in workflow.dag.needrun_jobs() for path in job.output}
    )
    costs = plan.estimate(
        [
            PlannedJob(job.rule.name, dict(job.wildcards.items()))
            for job in workflow.dag.needrun_jobs()
        ],
        config,
        counts=plan.read_counts(BASE / "config" / "clip_counts.tsv", config),
        archives=plan.to_fetch(ARCHIVES, MIRRORED, config),
        speeds=plan.read_speeds(BASE / "config" / "speeds.tsv"),
    )
    free_bytes = plan.free_disk(RESULTS)
    print(f"  {plan.disk_line(costs, free_bytes=free_bytes)}\n", file=sys.stderr)
    if config["check_disk"] and not plan.fits(costs, free_bytes=free_bytes):
        raise WorkflowError(
            "the disk is too small for this run. Free some, take fewer machines or encoders, let caches go "
            "(embeddings: {keep: false}), put `results` elsewhere, or set check_disk: false to try all the same."
        )


onsuccess:
    if "folder" in config["datasets"]:
        shutil.rmtree(Path(RESULTS) / "recordings" / "previous", ignore_errors=True)
    if "MAKELEVEL" not in os.environ:  # make says it itself, also where nothing was to be done
        made = [
            folder
            for folder in ("tables", "figures", "listening")
            if os.path.isdir(f"{RESULTS}/{folder}")
        ]
        print(
            (
                results_of_recordings(config)
                if "folder" in config["datasets"]
                else "\n".join(f"  {folder}: {RESULTS}/{folder}" for folder in made)
            ),
            file=sys.stderr,
        )


onerror:
    failed = [
        FailedJob(
            job.rule.name, dict(job.wildcards.items()), str(job.log[0]) if job.log else ""
        )
        for failure in workflow.scheduler.failed
        for job in (failure.jobs if failure.is_group() else [failure])
    ]
    if failed:
        print(summary(failed, started=STARTED), file=sys.stderr)


def leaderboard_files(wildcards):
    if "envmix" not in config["datasets"] or "leakfree" not in config["protocols"]:
        raise WorkflowError(
            "the leaderboard is of EnvMix without leakage: it needs envmix among `datasets` and leakfree among "
            "`protocols`"
        )
    return [
        f"{RESULTS}/leaderboard/leaderboard.html",
        *(
            f"{RESULTS}/leaderboard/quality_against_cost_{level}.png"
            for level in ("sample", "spectrogram", "temporal")
        ),
    ]
