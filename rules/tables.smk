# The paper's tables. They hang on the metrics table and its bootstrap draws alone.
TABLES = f"{RESULTS}/tables/{{encoder}}"
GROUPINGS = {
    "envmix": ["", "_by_snr_db", "_by_category"],  # Table 3
    "mimii": ["", "_by_snr_db", "_by_id"],  # Table 1
    "faithfulness": [""],  # Table 2
}


wildcard_constraints:
    table="envmix|mimii|faithfulness",
    grouping="(_by_snr_db|_by_category|_by_id)?",


rule render_table:
    input:
        table=rules.aggregate_metrics.output.table,
        draws=rules.aggregate_metrics.output.draws,
    output:
        report(
            f"{TABLES}/{{table}}_{{protocol}}{{grouping}}.html",
            caption="../report/paper_table.rst",
            category="Tables",
            subcategory="{encoder}",
            labels={"table": "{table}{grouping}", "protocol": "{protocol}"},
        ),
        f"{TABLES}/{{table}}_{{protocol}}{{grouping}}.tsv",
        f"{TABLES}/{{table}}_{{protocol}}{{grouping}}.md",
        f"{TABLES}/{{table}}_{{protocol}}{{grouping}}.tex",
    log:
        f"{RESULTS}/logs/render_table/{{encoder}}/{{table}}_{{protocol}}{{grouping}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_table/{{encoder}}/{{table}}_{{protocol}}{{grouping}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "table": wildcards.table,
            "protocol": wildcards.protocol,
            "encoder": wildcards.encoder,
            "by": wildcards.grouping.removeprefix("_by_") or None,
            "paper_values": (BASE / "config" / "paper_values.tsv").read_text(),
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("render_table", "paper"),
    script:
        "../workflow_scripts/render_table.py"


rule compare_with_paper:
    input:
        table=rules.aggregate_metrics.output.table,
        draws=rules.aggregate_metrics.output.draws,
    output:
        report(
            f"{TABLES}/compare_with_paper.html",
            caption="../report/compare_with_paper.rst",
            category="Tables",
            subcategory="{encoder}",
            labels={"table": "comparison with the paper", "protocol": "both"},
        ),
        f"{TABLES}/compare_with_paper.tsv",
        f"{TABLES}/compare_with_paper.md",
        f"{TABLES}/compare_with_paper.tex",
    log:
        f"{RESULTS}/logs/compare_with_paper/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_with_paper/{{encoder}}.tsv"
    conda:
        "../envs/paper.yaml"
    params:
        settings=lambda wildcards: {
            "encoder": wildcards.encoder,
            "paper_values": (BASE / "config" / "paper_values.tsv").read_text(),
            "stamp": STAMP,
            "labels": labels(),
        },
        code=code("compare_with_paper", "paper"),
    script:
        "../workflow_scripts/compare_with_paper.py"


rule table1:
    input:
        table_files("mimii") if "mimii" in config["datasets"] else [],


rule table2:
    input:
        table_files("faithfulness") if faithfulness_experiments() else [],


rule table3:
    input:
        table_files("envmix") if "envmix" in config["datasets"] else [],


rule tables:
    input:
        rules.table1.input,
        rules.table2.input,
        rules.table3.input,
        expand(f"{TABLES}/compare_with_paper.tsv", encoder=config["encoders"]),
        rules.collect_skipped_clips.output if "envmix" in config["datasets"] else [],
