"""check_dataset: what is in a folder, what is wrong with it, and the manifest that fixes it as a version."""

from __future__ import annotations

import json

from nasdet_core.data.check import check_and_build_manifest
from services.worker.context import JobContext
from services.worker.jobs.dataset import dataset_folder, unpacked
from services.worker.work import JobOutcome, JobRequest


def run(job: JobRequest, context: JobContext) -> JobOutcome:
    """The seed of the splits belongs to the dataset, not to the search: all searches see the same splits."""
    context.progress(stage="check")
    archive: str | None = job.payload.get("archive")
    held = None if archive is None else unpacked(archive, context, verify=True)
    folder = dataset_folder(context.facts, job.payload["dataset"]) if held is None else held.path

    def progress(what: str, done: int, total: int) -> None:
        context.progress(stage="check", doing=what, done=done, total=total)

    report, manifest = check_and_build_manifest(folder, progress)
    if held is not None:
        held.close()
    text = json.dumps(manifest.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return JobOutcome(
        "succeeded",
        result={
            "digest": manifest.digest,
            "manifest": context.put_artifact(text.encode()),
            "class_names": list(manifest.classes),
            "splits": {role: len(files) for role, files in manifest.splits.items()},
            "split_names": dict(manifest.split_names),
            "report": report,
            "archive": archive,
        },
    )
