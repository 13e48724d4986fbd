"""`nasdet data check` on a file of COCO's size, beside what reading it in one piece costs.

    python benchmarks/check_coco_size.py [--images 120000] [--folder DIR]

Writes an instance file with COCO's structure (7 objects a picture, polygons, ids with gaps), checks it with
`--annotations-only` in a process of its own, and reads it with `json.load` in another. Prints seconds, peak memory and
their ratios; nothing here passes or fails by time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

OBJECTS_A_PICTURE = 15  # 0 to 14, evenly: 7 in the middle, as COCO
CATEGORY_IDS = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
PEER = "import json, sys; json.load(open(sys.argv[1], encoding='utf-8'))"


def write_instances(path: Path, images: int, seed: int = 0) -> None:
    """A train2017-like file, written entry by entry."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(200, 641, (images, 2)).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "generated"}, "licenses": [{"id": 3, "name": "x"}], "images": [')
        for number, (width, height) in enumerate(sizes, start=1):
            name = f"{number:012d}.jpg"
            entry = {
                "license": 3,
                "file_name": name,
                "coco_url": f"http://images.example.org/train2017/{name}",
                "height": height,
                "width": width,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.example.org/8186/{number}_4e622c8349_z.jpg",
                "id": number,
            }
            file.write((", " if number > 1 else "") + json.dumps(entry))
        file.write('], "annotations": [')
        written = 0
        for number, (width, height) in enumerate(sizes, start=1):
            for _ in range(int(rng.integers(0, OBJECTS_A_PICTURE))):
                written += 1
                file.write((", " if written > 1 else "") + json.dumps(_object(rng, written, number, width, height)))
        categories = [{"supercategory": "thing", "id": key, "name": f"class {key}"} for key in CATEGORY_IDS]
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _object(rng: np.random.Generator, identity: int, image: int, width: int, height: int) -> dict[str, object]:
    w, h = (round(float(rng.uniform(5, side / 2)), 2) for side in (width, height))
    x, y = round(float(rng.uniform(0, width - w)), 2), round(float(rng.uniform(0, height - h)), 2)
    return {
        "segmentation": [np.round(rng.uniform(0, 640, int(rng.integers(8, 60))), 2).tolist()],
        "area": round(0.6 * w * h, 4),
        "iscrowd": 0,
        "image_id": image,
        "bbox": [x, y, w, h],
        "category_id": CATEGORY_IDS[int(rng.integers(len(CATEGORY_IDS)))],
        "id": identity,
    }


def measure(command: Sequence[str]) -> tuple[float, float]:
    """(seconds, peak memory in MB) of a process."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--folder", type=Path, help="keeps the generated file here, and uses the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = (options.folder or Path(temporary)) / "annotations" / "instances_train.json"
        if not path.exists():
            write_instances(path, options.images)
        nasdet = Path(sys.executable).with_name("nasdet")
        ours = measure([str(nasdet), "data", "check", str(path), "--annotations-only", "--json"])
        peer = measure([sys.executable, "-c", PEER, str(path)])
        size = path.stat().st_size / 1e6
    sys.stdout.write(
        f"file: {size:.0f} MB\n"
        f"nasdet data check --annotations-only: {ours[0]:.1f} s, {ours[1]:.0f} MB\n"
        f"json.load alone: {peer[0]:.1f} s, {peer[1]:.0f} MB\n"
        f"ratio: {ours[0] / peer[0]:.2f} x the time, {ours[1] / peer[1]:.2f} x the memory\n"
    )


if __name__ == "__main__":
    main()
