"""Compare engines on the embedded model: ONNX Runtime as shipped, and OpenVINO in float32, bfloat16 and int8.

All are given the same token ids in the same batches and the same number of threads; tokenising is left out. Beside
speed stands what it costs: how far the scores move from float32, the time to open, memory and the size on disk.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))  # a checkout needs no installation

import numpy as np

import machine
import report
import texts as made
from contestants import file_mb, missing
from crest.bundle import MANIFEST, MODEL, TOKENIZER, find_bundle, open_bundle
from crest.encode import Tokenizer
from rounds import latencies, throughputs, warm
from texts import Text
from worker import Worker

REFERENCE = "onnxruntime-f32"
FORMS = {  # engine and the form of the model that it is given
    "onnxruntime-int8": "embedded",
    REFERENCE: "plain",
    "openvino-f32": "plain",
    "openvino-bf16": "plain",
    "openvino-int8": "pairs",
}


def main() -> None:
    """Measure, write the JSON report and print it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--quick", action="store_true", help="a few calls of each: does it run at all?")
    parser.add_argument("--model", help="a model folder instead of the embedded model")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for the other forms of the model")
    arguments = parser.parse_args()
    result = compare(model=arguments.model, work=arguments.work, quick=arguments.quick)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report.markdown(result))


def compare(*, model: str | None, work: Path, quick: bool) -> dict[str, Any]:
    """Measure every engine that is installed and return the report."""
    from plain import write_pairs, write_plain

    bundle = open_bundle(find_bundle(model))
    facts = machine.describe()
    made_from = hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest()[:12]
    folders = {"embedded": bundle.folder, "plain": work / f"plain-{made_from}", "pairs": work / f"pairs-{made_from}"}
    for form, write in (("plain", write_plain), ("pairs", write_pairs)):
        if not (folders[form] / MODEL).exists():
            write(bundle.folder, folders[form])
    tokenizer = Tokenizer(bundle.folder / TOKENIZER)
    seeds = made.read_seeds(rng=random.Random(0))
    lengths = (8, 32) if quick else (8, 32, 128)
    fixed = {each: made.cut(seeds, tokenizer=tokenizer, tokens=each, count=20) for each in lengths}
    batch = made.cut(seeds, tokenizer=tokenizer, tokens=32, count=256)
    mixed = made.mixed(seeds, tokenizer=tokenizer, count=128 if quick else 500)
    skipped = {name: reason for name in FORMS if (reason := missing(name))}
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(name, threads=threads, path=folders[form] / MODEL))
            for name, form in FORMS.items()
            if name not in skipped
            for threads in ((2,) if quick else (1, 2))
        ]
        peaks = [warm(worker, fixed) for worker in workers]
        pairs = [worker for worker in workers if worker.threads == 2]
        parities = _parities(pairs, mixed)
        times = list(latencies(pairs, fixed, rounds=2 if quick else 10))
        rates = list(
            throughputs(
                workers, fixed=batch, mixed=mixed, batches=(1, 32) if quick else (1, 32, 256), rounds=1 if quick else 4
            )
        )
        memories = [
            report.Memory(each.name, each.threads, each.open_s, peak, each.time(batch[:1], batch=1).peak_mb)
            for each, peak in zip(workers, peaks, strict=True)
        ]
    return {
        "format": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "crest": {"model": bundle.manifest.name, "revision": bundle.manifest.revision},
        "quick": quick,
        "machine": facts,
        "latency": [asdict(each) for each in times],
        "throughput": [asdict(each) for each in rates],
        "memory": [asdict(each) for each in memories],
        "disk_mb": {name: round(file_mb(folders[form] / MODEL), 1) for name, form in FORMS.items()},
        "parity": parities,
        "skipped": skipped,
    }


def _parities(workers: Sequence[Worker], texts: Sequence[Text]) -> list[dict[str, Any]]:
    """Say how far each engine's scores are from float32's on real texts, one at a time and so without padding."""
    scores = {w.name: 1 / (1 + np.exp(-np.array(w.time(texts, batch=1).scores))) for w in workers}
    exact = scores[REFERENCE]
    return [
        {
            "engine": name,
            "n": len(each),
            "p99 of the score difference": round(float(np.quantile(np.abs(each - exact), 0.99)), 5),
            "flipped, %": round(100 * float(((each >= 0.5) != (exact >= 0.5)).mean()), 2),
        }
        for name, each in scores.items()
    ]


if __name__ == "__main__":
    main()
