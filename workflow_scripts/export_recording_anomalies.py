"""Test recordings of one machine as WAV, 16 bit, abnormal ones first: what each method isolates and leaves.

{n}_recording, and for each method {n}_<method>_isolated and {n}_<method>_cleaned, which add up to the recording.
Table: columns of the split, clip scores <method>_score, and the columns of listening.export_example.
"""

from pathlib import Path

import pandas as pd

from vision_to_sound.archive_record import ArchiveRecord
from vision_to_sound.archives import open_archive
from vision_to_sound.files import read_table, write_table
from vision_to_sound.front_ends import FrontEnd
from vision_to_sound.listening import export_example
from vision_to_sound.recordings import recording_reader
from vision_to_sound.scores import AnomalyScores
from vision_to_sound.stage import progress, run_stage

if "snakemake" in globals():
    with run_stage(snakemake) as job:
        files, settings = snakemake.input, job.settings
        count, methods = settings["count"], settings["methods"]
        table = read_table(files.table)
        test = table[table["role"] == "test"].reset_index(drop=True)  # rows as in the scores
        rows = test.sort_values("label", ascending=False, kind="stable").head(count)
        if len(rows) < count:
            raise ValueError(
                f"only {len(rows)} test recordings; set listening.count to at most {len(rows)}"
            )
        index = read_table(files.index)
        index = index[index["category"] == settings["category"]].set_index("clip")
        loaded = [AnomalyScores.load(path) for path in files.scores]
        scores = dict(zip(methods, loaded, strict=True))
        record = ArchiveRecord.load(Path(files.archive))
        limit = int(snakemake.resources.max_member_mb) << 20
        with open_archive(record, max_member_bytes=limit) as archive:
            reading = ("sample_rate_hz", "clip_s", "max_missing_s", "channel")
            read_clips = recording_reader(
                archive,
                index.loc[rows["clip"]].reset_index(),
                threads=job.threads,
                **{key: settings[key] for key in reading},
            )
            recordings = read_clips(slice(0, count))
        front_ends = {m: FrontEnd(**settings["front_ends"][m]) for m in methods}
        advance, examples = progress(count, "recordings", unit="recording"), []
        for n, row in enumerate(rows.index):
            columns = export_example(
                Path(snakemake.output.table).parent,
                n,
                {"recording": recordings[n]},
                {method: scores[method].maps[row] for method in methods},
                front_ends=front_ends,
                sample_rate_hz=settings["sample_rate_hz"],
            )
            examples.append({f"{m}_score": scores[m].clips[row] for m in methods} | columns)
            advance(1)
        examples = pd.DataFrame(examples, index=rows.index)
        write_table(rows.join(examples), snakemake.output.table)
