"""Measure the embedded guard beside rivals: latency, throughput, memory and start-up, all in one interleaved run.

Every figure is taken in rounds, and in each round every contestant has its turn, so that a machine that grows slower or
faster does so for all. Contestants wait in processes of their own. Only ratios travel between machines.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))  # a checkout needs no installation

import machine
import report
import texts as made
from contestants import missing
from crest import __version__
from crest.bundle import TOKENIZER, find_bundle, open_bundle
from crest.encode import Tokenizer
from rounds import latencies, throughputs, warm
from worker import Worker, environment

SINGLE = "alt-profanity-check"  # knows one thread only
NAMES = ("crest", "xlmr-base-fp32", "xlmr-base-int8", SINGLE)
PARTS = ("startup", "latency", "throughput")
LENGTHS = (8, 32, 128, 512)
BATCHES = (1, 32, 256)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        lengths: Of texts, in tokens, for latency.
        batches: For throughput.
        threads: For throughput; the last one is also used for latency.
        latency_rounds: See `rounds.latencies`.
        rounds: For throughput; see `rounds.throughputs`.
        starts: Of a whole process.
    """

    lengths: Sequence[int]
    batches: Sequence[int]
    threads: Sequence[int]
    latency_rounds: int
    rounds: int
    starts: int


FULL = Plan(LENGTHS, BATCHES, (1, 2), latency_rounds=10, rounds=4, starts=15)
QUICK = Plan((8, 32), (1, 32), (2,), latency_rounds=2, rounds=1, starts=3)


def main() -> None:
    """Measure, write the JSON report and print it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--quick", action="store_true", help="a few calls of each: does it run at all?")
    parser.add_argument("--model", help="a model folder instead of the embedded model")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="measure only these")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for the exported rival")
    arguments = parser.parse_args()
    result = measure(
        QUICK if arguments.quick else FULL, model=arguments.model, parts=arguments.parts, work=arguments.work
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report.markdown(result))


def measure(plan: Plan, *, model: str | None, parts: Sequence[str], work: Path) -> dict[str, Any]:
    """Run the plan and return the report."""
    bundle = open_bundle(find_bundle(model))
    facts = machine.describe()
    tokenizer = Tokenizer(bundle.folder / TOKENIZER)
    seeds = made.read_seeds(rng=random.Random(0))
    skipped = {name: reason for name in NAMES if (reason := missing(name))}
    times: list[report.Latency] = []
    rates: list[report.Throughput] = []
    memories: list[report.Memory] = []
    startups = _startups(plan, bundle.folder, embedded=model is None) if "startup" in parts else []
    if set(parts) - {"startup"}:
        lengths = sorted({*plan.lengths, 512})
        fixed = {each: made.cut(seeds, tokenizer=tokenizer, tokens=each, count=20) for each in lengths}
        batch = made.cut(seeds, tokenizer=tokenizer, tokens=32, count=256)
        with ExitStack() as stack:
            paths = {"crest": bundle.folder, "xlmr-base-int8": work / "xlmr-base-int8.onnx"}
            if "xlmr-base-int8" not in skipped:
                _export_rival(paths["xlmr-base-int8"])
            workers = [
                stack.enter_context(Worker(name, threads=threads, path=paths.get(name)))
                for name in NAMES
                if name not in skipped
                for threads in (plan.threads if "throughput" in parts else plan.threads[-1:])
                if name != SINGLE or threads == plan.threads[-1]
            ]
            peaks = [warm(worker, fixed) for worker in workers]
            if "latency" in parts:
                some = [each for each in workers if each.threads == plan.threads[-1]]
                texts = {each: fixed[each] for each in plan.lengths}
                times = list(latencies(some, texts, rounds=plan.latency_rounds))
            if "throughput" in parts:
                mixed = made.mixed(seeds, tokenizer=tokenizer, count=256)
                rates = list(throughputs(workers, fixed=batch, mixed=mixed, batches=plan.batches, rounds=plan.rounds))
            for worker, peak in zip(workers, peaks, strict=True):
                end = worker.time(batch[:1], batch=1).peak_mb
                memories.append(report.Memory(worker.name, worker.threads, worker.open_s, peak, end))
    found = report.ratios(times, rates)
    return {
        "format": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "crest": {"version": __version__, "model": bundle.manifest.name, "revision": bundle.manifest.revision},
        "quick": plan is QUICK,
        "machine": facts,
        "latency": [asdict(each) for each in times],
        "throughput": [asdict(each) for each in rates],
        "memory": [asdict(each) for each in memories],
        "startup": [asdict(each) for each in startups],
        "ratios": found,
        "goals": [asdict(each) for each in report.goals(found, memories, startups)],
        "skipped": skipped,
    }


def _startups(plan: Plan, folder: Path, *, embedded: bool) -> list[report.Startup]:
    """Time whole processes, in turn."""
    check = ["-m", "crest", "check", "How do I bake bread?", *([] if embedded else ["--model", str(folder)])]
    commands = {
        "python -c pass": ["-c", "pass"],
        "import crest": ["-c", "import crest"],
        "crest --version": ["-m", "crest", "--version"],
        "crest check": check,
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(plan.starts + 1):
        for name, arguments in commands.items():
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                env=environment(),
            )
            seconds[name].append(time.perf_counter() - begin)
    return [
        report.Startup(name, plan.starts, round(min(each[1:]), 4), round(statistics.median(each[1:]), 4))
        for name, each in seconds.items()
    ]


def _export_rival(path: Path) -> None:
    """Export XLM-R in a process of its own, once for each work folder."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.onnx")
    subprocess.run([sys.executable, str(Path(__file__).parent / "xlmr.py"), str(partial)], check=True)
    partial.replace(path)


if __name__ == "__main__":
    main()
