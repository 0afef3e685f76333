# No rules here: paths, checked settings and fingerprints that the other files share.
# Standard library and Snakemake only. Everything from the repository enters a rule through its params, as a
# value (settings) or a content hash (code); everything that is data is an input under results/.
import dataclasses
import functools
import shutil
import sys
from itertools import product
from pathlib import Path

import yaml
from snakemake.utils import validate

sys.path.insert(0, str(Path(workflow.basedir) / "src"))  # scripts inherit it

from vision_to_sound.downloads import mirrored_names, rows_for
from vision_to_sound.detectors import DETECTORS
from vision_to_sound.encoders import ENCODERS
from vision_to_sound.provenance import fingerprint_digest, stage_fingerprint
from vision_to_sound.settings import check_config, check_known

BASE = Path(workflow.basedir)
SCHEMA = BASE / "config" / "schema.yaml"

try:
    check_config(config, yaml.safe_load(SCHEMA.read_text()))
    for name in config["encoders"]:
        check_known(name, ENCODERS, what="encoder")
    for name in config["methods"] + config["controls"]:
        check_known(name, DETECTORS, what="method")
    for name in [*config["overrides"], *config["figures"]["example_categories"]]:
        check_known(name, config["envmix"]["backgrounds"], what="background class")
    for key, known in (("example_snr_db", "snrs_db"), ("example_seed", "seeds")):
        if config["figures"][key] not in config["envmix"][known]:
            raise ValueError(
                f"figures.{key} is {config['figures'][key]}, but envmix.{known} is {config['envmix'][known]}"
            )
    MIRROR = Path(config["mirror"]) if config["mirror"] else None
    if MIRROR and not MIRROR.is_dir():
        raise ValueError(f"mirror: there is no folder {MIRROR}")
    ARCHIVES = rows_for(BASE / "config" / "datasets.tsv", MIRROR)
    MIRRORED = mirrored_names(MIRROR)
except (ValueError, OSError) as error:
    raise WorkflowError(f"config: {error}") from None
validate(config, SCHEMA)

RESULTS = config["results"]
DETECTOR_NAMES = [*config["methods"], *config["controls"]]
STAMP = "; ".join(
    part
    for part in (
        (
            "SYNTHETIC SOUNDS: these numbers say nothing about real recordings"
            if config["synthetic"]
            else ""
        ),
        config["stamp"],
    )
    if part
)
# For the captions of the report.
config["stamp"] = STAMP
config["gpu_found"] = bool(shutil.which("nvidia-smi"))


wildcard_constraints:
    archive="|".join(ARCHIVES),
    source="urbansound8k|esc50",
    protocol="published|leakfree",
    dataset="envmix",
    category="[^/]+",
    snr=r"-?\d+",
    snr_dir=r"(snr-?\d+/)?",
    seed=r"\d+",
    encoder="|".join(ENCODERS),
    method="|".join(DETECTORS),
    kind="normal|mixture",


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
    return {"entry": entry, "method": method, "detector": settings}


def encoder_settings(encoder):
    settings = dataclasses.asdict(ENCODERS[encoder])
    del settings["label"]
    return settings


def normal_set(protocol, dataset, category, snr, seed):
    """Clip set of the normal clips. Leakfree ones depend neither on SNR nor on seed: embedded once."""
    if protocol == "leakfree":
        return f"leakfree/{dataset}/{category}/normal"
    return f"published/{dataset}/{category}/snr{snr}/seed{seed}/normal"


def embedding_files(clip_set, encoder):
    return [f"{RESULTS}/embeddings/{clip_set}/{encoder}.{suffix}" for suffix in ("npy", "json")]


def experiments():
    """Wildcards of every experiment that the config asks for, as dicts."""
    envmix = config["envmix"]
    names = ("protocol", "dataset", "category", "snr", "encoder", "method", "seed")
    values = (
        config["protocols"],
        ["envmix"],
        envmix["backgrounds"],
        envmix["snrs_db"],
        config["encoders"],
        DETECTOR_NAMES,
        envmix["seeds"],
    )
    for combination in product(*values):
        yield dict(zip(names, combination, strict=True))


EXPERIMENT = "{protocol}/{dataset}/{category}/snr{snr}/{encoder}/{method}/seed{seed}"


onstart:
    if not config["gpu_found"]:
        print(
            "\n  NO GPU FOUND on this machine: the stages that would use one run on the CPU.\n",
            file=sys.stderr,
        )
