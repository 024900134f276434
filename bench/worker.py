"""Time a contestant in a process of its own, so that its threads, its libraries and its memory touch no other's.

The parent holds many workers open and gives them work in turn: one that waits sleeps on its pipe. Run as a script, this
is the child: one JSON line on standard input per request, one on standard output per answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from contestants import CONTESTANTS
from texts import Text

SOURCE = Path(__file__).parent.parent / "src"


@dataclass(frozen=True, slots=True)
class Timing:
    """What a worker did.

    Attributes:
        seconds: Of each call, in order.
        texts: How many texts were scored in all.
        scores: Of each text, in order.
        peak_mb: The most memory that the process has held so far.
    """

    seconds: list[float]
    texts: int
    scores: list[float]
    peak_mb: float

    @property
    def texts_per_s(self) -> float:
        """Texts scored in a second."""
        return self.texts / sum(self.seconds)


class Worker:
    """A contestant, open in its own process; use it in a `with` block.

    Args:
        name: Of the contestant.
        threads: That it may use.
        path: Of its model, if it has one to choose.

    Raises:
        RuntimeError: If it cannot be opened; its own message stands on standard error.
    """

    def __init__(self, name: str, *, threads: int, path: str | Path | None = None) -> None:
        """Start the process and wait until the contestant is open."""
        self.name, self.threads = name, threads
        command = [sys.executable, __file__, name, str(threads), *([str(path)] if path else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        self.open_s: float = self._answer()["open_s"]

    def __enter__(self) -> Worker:  # noqa: PYI034  # Self needs Python 3.11
        """Return the worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def time(self, texts: Sequence[Text], *, batch: int) -> Timing:
        """Score texts in batches, in order, and time each call.

        Raises:
            RuntimeError: If the contestant fails.
        """
        if self._process.stdin is None:
            raise RuntimeError(f"{self.name} has no pipe")
        self._process.stdin.write(json.dumps({"batch": batch, "texts": [asdict(text) for text in texts]}) + "\n")
        self._process.stdin.flush()
        return Timing(**self._answer())

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}; its error stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def environment() -> dict[str, str]:
    """Return the environment in which a new process finds the crest of this checkout."""
    paths = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def peak_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        line = next(each for each in status.read_text(encoding="ascii").splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main(name: str, threads: int, path: str | None) -> None:
    """Open a contestant and answer requests until standard input ends."""
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # libraries that print must not break the protocol
        begin = time.perf_counter()
        score = CONTESTANTS[name].open(path, threads)
        print(json.dumps({"open_s": time.perf_counter() - begin}), file=answers, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            texts = [each["text"] for each in request["texts"]]
            ids = [each["ids"] for each in request["texts"]]
            seconds: list[float] = []
            scores: list[float] = []
            for first in range(0, len(texts), request["batch"]):
                part = slice(first, first + request["batch"])
                begin = time.perf_counter()
                scored = score(texts[part], ids[part])
                seconds.append(time.perf_counter() - begin)
                scores += [float(each) for each in scored]
            timing = Timing(seconds=seconds, texts=len(texts), scores=scores, peak_mb=peak_mb())
            print(json.dumps(asdict(timing)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
