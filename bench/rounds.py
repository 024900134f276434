"""Measure in rounds in which every worker has its turn, so that a machine that slows down does so for all alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from report import Latency, Throughput, latency, throughput
from texts import Text
from worker import Timing, Worker

BREATH_S = 0.02  # threads of the one before spin for a moment before they sleep


def warm(worker: Worker, texts: Mapping[int, Sequence[Text]]) -> float:
    """Let a worker meet a batch of 32 texts and a text of every length; return its peak memory in MB."""
    worker.time((*texts[32], *texts[32])[:32], batch=32)
    return max(worker.time(each[:1], batch=1).peak_mb for each in texts.values())


def latencies(workers: Sequence[Worker], texts: Mapping[int, Sequence[Text]], *, rounds: int) -> Iterator[Latency]:
    """Time calls of one text.

    Args:
        workers: Who is measured.
        texts: Lists of texts, by their length in tokens.
        rounds: In each, a fast contestant makes 20 calls for each length and a slow one 4.
    """
    seconds: dict[tuple[Worker, int], list[float]] = {(worker, tokens): [] for worker in workers for tokens in texts}
    for number in range(rounds):
        _say("latency", number, rounds)
        for tokens in texts:
            for worker in workers:
                calls = 4 if _is_slow(worker) else 20
                turn = [texts[tokens][(number * calls + call) % len(texts[tokens])] for call in range(calls)]
                seconds[worker, tokens] += _turn(worker, turn, batch=1).seconds
    for (worker, tokens), each in seconds.items():
        yield latency(worker.name, each, tokens=tokens, threads=worker.threads)


def throughputs(
    workers: Sequence[Worker], *, fixed: Sequence[Text], mixed: Sequence[Text], batches: Sequence[int], rounds: int
) -> Iterator[Throughput]:
    """Time many texts.

    Args:
        workers: Who is measured.
        fixed: Texts of 32 tokens, at least as many as the largest batch; measured at every batch size.
        mixed: Texts as they come; measured at batch 32.
        batches: Texts in a call. One of more than 32 takes part in every second round.
        rounds: How often.
    """
    settings = [("32 tokens", fixed, batch) for batch in batches] + [("mixed", mixed, 32)]
    timings: dict[tuple[Worker, str, int], list[Timing]] = {}
    for number in range(rounds):
        _say("throughput", number, rounds)
        for kind, texts, batch in settings:
            for worker in workers:
                if batch <= 32 or number % 2 == 0:
                    turn = _turn(worker, texts[: _count(worker, kind, batch)], batch=batch)
                    timings.setdefault((worker, kind, batch), []).append(turn)
    for (worker, kind, batch), each in timings.items():
        rates = [timing.texts_per_s for timing in each]
        count = sum(timing.texts for timing in each)
        yield throughput(worker.name, rates, texts=kind, batch=batch, threads=worker.threads, n=count)


def _count(worker: Worker, kind: str, batch: int) -> int:
    """Return how many texts make a turn long enough to time and short enough to wait for."""
    if not _is_slow(worker):
        return max(batch, 128)
    return 8 if batch == 1 else 64 if kind == "mixed" else batch


def _say(what: str, number: int, rounds: int) -> None:
    print(f"{what}: round {number + 1} of {rounds}", file=sys.stderr)


def _is_slow(worker: Worker) -> bool:
    return worker.name.startswith("xlmr")


def _turn(worker: Worker, texts: Sequence[Text], *, batch: int) -> Timing:
    """Give one contestant its turn, once the one before has come to rest."""
    time.sleep(BREATH_S)
    return worker.time(texts, batch=batch)
