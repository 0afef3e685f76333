"""Write small archives of synthetic sounds in the layouts of UrbanSound8K, ESC-50 and MIMII, and their table."""

from pathlib import Path

from vision_to_sound.stage import run_stage
from vision_to_sound.synthetic.envmix import write_synthetic_archives
from vision_to_sound.synthetic.mimii import write_synthetic_mimii
from vision_to_sound.synthetic.parts import write_archive_table

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        table, settings = Path(snakemake.output.table), job.settings
        machines = settings.pop("mimii")
        archives = write_synthetic_archives(table.parent, **settings)
        if machines:
            archives |= write_synthetic_mimii(table.parent, **machines, seed=settings["seed"])
        write_archive_table(table, archives)
