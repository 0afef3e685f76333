# From archives to tables: the includes below, in this order, are the paper's method.
#   snakemake --cores 8 --resources gpu=1                    the paper (config/config.yaml)
#   snakemake --cores 2 --configfile config/demo.yaml        the demo: synthetic sounds, nothing to download
from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/download.smk"
include: "rules/mix.smk"
include: "rules/embed.smk"
include: "rules/detect.smk"
include: "rules/evaluate.smk"
include: "rules/listen.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"


localrules:
    all,
    tables,
    figures,
    metrics,


rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        listening_examples(),
        # Scores and maps are results too: one that was deleted is made again.
        [f"{RESULTS}/scores/{EXPERIMENT.format(**experiment)}.npz" for experiment in experiments()],
