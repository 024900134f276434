"""Turn what was measured into ratios, goals met or missed, and Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

BASELINE = "xlmr-base-fp32"
OURS = "crest"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a call with one text.

    Attributes:
        contestant: Who was measured.
        tokens: Length of each text.
        threads: CPU threads.
        n: Number of calls.
        p50_ms: Median.
        p95_ms: 95th percentile.
    """

    contestant: str
    tokens: int
    threads: int
    n: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Texts scored in a second.

    Attributes:
        contestant: Who was measured.
        texts: `32 tokens` or `mixed`.
        batch: Texts in a call.
        threads: CPU threads.
        rounds: Number of measurements.
        n: Number of texts in all of them.
        texts_per_s: Median of the rounds.
        best: Of the rounds.
    """

    contestant: str
    texts: str
    batch: int
    threads: int
    rounds: int
    n: int
    texts_per_s: float
    best: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory of a process.

    Attributes:
        contestant: Who was measured.
        threads: CPU threads.
        open_s: Seconds from the start of the import to a guard that is ready.
        peak_mb: After opening, a batch of 32 texts of 32 tokens and one text of 512 tokens.
        peak_end_mb: At the end of the whole run.
    """

    contestant: str
    threads: int
    open_s: float
    peak_mb: float
    peak_end_mb: float


@dataclass(frozen=True, slots=True)
class Startup:
    """Wall time of a whole process.

    Attributes:
        command: What was run.
        n: How many times, after one run that does not count.
        best_s: The fastest.
        median_s: The median.
    """

    command: str
    n: int
    best_s: float
    median_s: float


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that the project has promised.

    Attributes:
        goal: In words.
        value: What was measured.
        limit: What it must reach.
        met: Whether it does.
    """

    goal: str
    value: float
    limit: float
    met: bool


def latency(contestant: str, seconds: Sequence[float], *, tokens: int, threads: int) -> Latency:
    """Summarise calls."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    milliseconds = (1000 * statistics.median(ordered), 1000 * p95)
    return Latency(contestant, tokens, threads, len(ordered), *(round(each, 3) for each in milliseconds))


def throughput(contestant: str, rates: Sequence[float], *, texts: str, batch: int, threads: int, n: int) -> Throughput:
    """Summarise rounds."""
    summary = (round(each, 2) for each in (statistics.median(rates), max(rates)))
    return Throughput(contestant, texts, batch, threads, len(rates), n, *summary)


def ratios(latencies: Iterable[Latency], throughputs: Iterable[Throughput]) -> list[dict[str, Any]]:
    """Compare ours with the baseline in every setting that both were measured in; more is better for us."""
    latencies, throughputs = list(latencies), list(throughputs)
    found: list[dict[str, Any]] = []
    theirs = {(each.tokens, each.threads): each.p50_ms for each in latencies if each.contestant == BASELINE}
    found += [
        {"p50 at tokens": each.tokens, "threads": each.threads, "times": round(theirs[key] / each.p50_ms, 2)}
        for each in latencies
        if each.contestant == OURS and (key := (each.tokens, each.threads)) in theirs
    ]
    rates = {(e.texts, e.batch, e.threads): e.texts_per_s for e in throughputs if e.contestant == BASELINE}
    found += [
        {
            "throughput at batch": each.batch,
            "texts": each.texts,
            "threads": each.threads,
            "times": round(each.texts_per_s / rates[at], 2),
        }
        for each in throughputs
        if each.contestant == OURS and (at := (each.texts, each.batch, each.threads)) in rates
    ]
    return found


def goals(found: Iterable[dict[str, Any]], memories: Iterable[Memory], startups: Iterable[Startup]) -> list[Goal]:
    """Hold the figures against what the project has promised; what was not measured is left out."""
    made = []
    for each in found:
        if each.get("throughput at batch") == 32 and each["texts"] == "32 tokens":
            name = f"throughput beside {BASELINE}, batch 32, {each['threads']} threads, at least"
            made.append(Goal(name, each["times"], 12, each["times"] >= 12))
        if each.get("p50 at tokens") == 32:
            name = f"p50 of {BASELINE} at 32 tokens beside ours, {each['threads']} threads, at least"
            made.append(Goal(name, each["times"], 10, each["times"] >= 10))
    peaks = [each.peak_end_mb for each in memories if each.contestant == OURS]
    if peaks:
        made.append(Goal("peak memory, MB, under", round(max(peaks), 1), 400, max(peaks) < 400))
    limits = {"crest check": 0.6, "import crest": 0.15}
    for startup in startups:
        if limit := limits.get(startup.command):
            name = f"{startup.command}, seconds, under"
            made.append(Goal(name, startup.median_s, limit, startup.median_s < limit))
    return made


def markdown(report: dict[str, Any]) -> str:
    """Render a report, as it stands in its JSON file."""
    machine, crest = report["machine"], report["crest"]
    parts = [f"Model {crest['model']} {crest['revision']}"]
    parts.append(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, {' '.join(machine['flags'])}")
    if report["latency"]:
        parts.append("Milliseconds a call, one text: p50 / p95 (n)")
        parts.append(
            _grid(
                report["latency"],
                column=lambda row: f"{row['tokens']} tokens",
                cell=lambda row: f"{row['p50_ms']:.1f} / {row['p95_ms']:.1f} ({row['n']})",
            )
        )
    if report["throughput"]:
        parts.append("Texts a second: median of the rounds")
        parts.append(
            _grid(
                report["throughput"],
                column=lambda row: f"{row['texts']}, batch {row['batch']}",
                cell=lambda row: f"{row['texts_per_s']:.1f}",
            )
        )
    titles = {
        "memory": "Memory",
        "startup": "Start-up",
        "parity": "Distance from float32",
        "ratios": f"Times better than {BASELINE}",
        "goals": "Goals",
    }
    for name, title in titles.items():
        if rows := report.get(name):
            parts += [title, _table(rows)]
    parts += [f"{name} was not measured: it {reason}" for name, reason in report["skipped"].items()]
    return "\n\n".join(parts)


def _grid(
    rows: Sequence[dict[str, Any]], *, column: Callable[[dict[str, Any]], str], cell: Callable[[dict[str, Any]], str]
) -> str:
    """Lay rows out with a line for each contestant and number of threads."""
    columns = list(dict.fromkeys(column(row) for row in rows))
    lines: dict[tuple[str, int], dict[str, str]] = {}
    for row in rows:
        lines.setdefault((row["contestant"], row["threads"]), {})[column(row)] = cell(row)
    return _table(
        [
            {"contestant": name, "threads": threads, **{each: cells.get(each, "") for each in columns}}
            for (name, threads), cells in lines.items()
        ]
    )


def _table(rows: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
