"""Write small archives of synthetic sounds in the layouts of UrbanSound8K and ESC-50."""

from pathlib import Path

from vision_to_sound.stage import run_stage
from vision_to_sound.synthetic import write_synthetic_archives

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        write_synthetic_archives(Path(snakemake.output[0]).parent, **job.settings)
