# From archives to tables: the includes below, in this order, are the paper's method.
#   snakemake --cores 8 --resources gpu=1                    the paper (config/config.yaml)
#   snakemake --cores 2 --configfile config/demo.yaml        the demo: synthetic sounds, nothing to download
#   snakemake --cores 2 --configfile config/recordings.yaml --config normal=DIR unsorted=DIR    your own recordings
from snakemake.utils import min_version

min_version("9.0")


# From here, not from the folder that the command is given in: that may hold a config of something else.
configfile: f"{workflow.basedir}/config/config.yaml"


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
include: "rules/leaderboard.smk"
include: "rules/recordings.smk"


# On a cluster these run on the host that submits: seconds each, in all a few hundred for the paper; archives come
# from the network, which nodes often lack. Without a cluster it makes no difference.
localrules:
    all,
    metrics,
    tables,
    table1,
    table2,
    table3,
    figures,
    figure1,
    figure2,
    figure3,
    figure4,
    download_archive,
    synthesize_archives,
    index_dataset,
    split_clips,
    split_recordings,
    synthesize_mixtures,
    aggregate_metrics,
    collect_skipped_clips,
    render_table,
    compare_with_paper,
    plot_metric_points,
    plot_protocol_gap,
    plot_anomaly_examples,
    plot_score_histogram,
    plot_framework,
    plot_ground_truth,
    plot_training_curves,
    leaderboard,
    render_leaderboard,
    plot_leaderboard,
    export_listening_examples,
    export_recording_anomalies,
    recordings,


rule all:
    default_target: True
    input:
        [rules.tables.input, rules.figures.input, listening_examples()] if BENCHMARKS else [],
        # Scores and maps are results too: one that was deleted is made again.
        [f"{RESULTS}/scores/{EXPERIMENT.format(**experiment)}.npz" for experiment in experiments()],
        rules.recordings.input if "folder" in config["datasets"] else [],
