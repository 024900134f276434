"""Judge texts: the one class that joins encoding, the model and its calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crest import bundle as bundles
from crest import calibration as calibrations
from crest.backend import Backend, OnnxBackend, run_sorted
from crest.bundle import Bundle, Manifest
from crest.calibration import Calibration
from crest.encode import PAD_ID, Encoded, Tokenizer, WindowSize, encode_pairs, encode_texts
from crest.errors import BackendError, InputError
from crest.types import Span, Verdict

MIN_COVERAGE = 0.5
UNKNOWN_LANGUAGE = "und"


class Guard:
    """A model that judges texts as safe or unsafe; several threads may use it at once.

    Args:
        bundle: The folder that the parts come from.
        tokenizer: Splits texts into the model's tokens.
        backend: Runs the model.
        calibration: Turns logits into scores and chooses the threshold of each language.
        threshold: Flag every text from this score on, whatever its language; None leaves it to the calibration.

    Raises:
        InputError: If the threshold is not between 0 and 1.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        tokenizer: Tokenizer,
        backend: Backend,
        calibration: Calibration,
        threshold: float | None = None,
    ) -> None:
        """Join the parts of an opened bundle; `Guard.from_pretrained` opens one."""
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}; it must lie between 0 and 1")
        self._bundle = bundle
        self._tokenizer = tokenizer
        self._backend = backend
        self._calibration = calibration
        self._threshold = threshold
        self._size = WindowSize(bundle.manifest.max_tokens, bundle.manifest.overlap_tokens)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        threads: int | None = None,
        threshold: float | None = None,
    ) -> Guard:
        """Open a model.

        Args:
            model: None for the embedded model, which needs no network; a model folder; or a Hugging Face hub id.
            revision: Commit, tag or branch of a hub model.
            threads: CPU threads that score one call; None uses every core.
            threshold: Flag every text from this score on, whatever its language; None leaves it to the model.

        Raises:
            ModelNotFoundError: If there is no such model.
            BundleError: If its folder is incomplete, changed or of an unknown format version.
            InputError: If an argument is out of its range.
        """
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; pass 1 or more, or None for every core")
        bundle = bundles.read_bundle(bundles.find_bundle(model, revision=revision))
        folder = bundle.folder
        with ThreadPoolExecutor(max_workers=3) as pool:
            tokenizer = pool.submit(Tokenizer, folder / bundles.TOKENIZER)
            backend = pool.submit(OnnxBackend, folder / bundles.MODEL, threads=threads)
            pool.submit(bundle.verify).result()  # its error comes first: a damaged file also breaks what reads it
            return cls(
                bundle,
                tokenizer=tokenizer.result(),
                backend=backend.result(),
                calibration=calibrations.load(folder / bundles.CALIBRATION),
                threshold=threshold,
            )

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._bundle.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the columns of `predict_proba`."""
        return self.manifest.labels

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that get a score."""
        return self.manifest.categories

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the model tells apart, as BCP-47 codes."""
        return self.manifest.languages

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        """Judge texts.

        Args:
            texts: Texts of any length and language. A long one is scored in windows that cover all of it.

        Returns:
            One verdict for each text, in order.

        Raises:
            InputError: If `texts` is not a list of texts.
            BackendError: If the model fails; no text is called safe because of a failure.
        """
        return self._judge(self._encode(_texts(texts, method="check()")))

    def check_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Judge responses, each in the context of its prompt.

        Args:
            pairs: A prompt and a response each. Scores, spans and coverage are those of the response; a long prompt is
                read from its end, in half of a window.

        Returns:
            One verdict for each pair, in order.

        Raises:
            InputError: If `pairs` is not a list of pairs of texts.
            BackendError: If the model fails.
        """
        checked = _pairs(pairs)
        return self._judge(encode_pairs(checked, tokenizer=self._tokenizer, size=self._size))

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return calibrated probabilities, shape (texts, labels).

        Raises:
            InputError: If `texts` is not a list of texts.
            BackendError: If the model fails.
        """
        encoded = self._encode(_texts(texts, method="predict_proba()"))
        unsafe = np.zeros(len(encoded))
        scored = [place for place, each in enumerate(encoded) if each.windows]
        if scored:
            unsafe[scored] = self._score([encoded[place] for place in scored]).unsafe
        return np.stack([1.0 - unsafe, unsafe], axis=1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the model into a folder that `from_pretrained` opens.

        Raises:
            InputError: If the folder is the model's own, or a file.
        """
        bundles.copy_bundle(self._bundle, folder)

    def _encode(self, texts: list[str]) -> list[Encoded]:
        return encode_texts(texts, tokenizer=self._tokenizer, size=self._size)

    def _judge(self, encoded: list[Encoded]) -> list[Verdict]:
        """Score encoded texts; one without a window has nothing to read and is safe."""
        filled = [each for each in encoded if each.windows]
        verdicts = iter(self._verdicts(filled)) if filled else iter(())
        return [next(verdicts) if each.windows else self._too_short() for each in encoded]

    def _score(self, encoded: list[Encoded]) -> _Scores:
        """Score texts that have windows: the riskiest window speaks for a text, all together for its language."""
        windows = [window for each in encoded for window in each.windows]
        logits = run_sorted(self._backend, [window.ids for window in windows], pad_id=PAD_ID)
        widths = (logits.category.shape[1], logits.language.shape[1])
        if widths != (len(self.categories), len(self.languages)):
            raise BackendError(
                f"the model scores {widths[0]} categories and {widths[1]} languages, its manifest names "
                f"{len(self.categories)} and {len(self.languages)}"
            )
        counts = np.array([len(each.windows) for each in encoded])
        firsts = np.cumsum(counts) - counts
        tokens = np.array([len(window.ids) for window in windows], dtype=np.float64)
        weights = tokens / np.repeat(np.add.reduceat(tokens, firsts), counts)
        by_window = self._calibration.scores(logits.unsafe)
        category = calibrations.sigmoid(np.maximum.reduceat(logits.category, firsts).astype(np.float64))
        language = np.add.reduceat(logits.language.astype(np.float64) * weights[:, None], firsts)
        return _Scores(
            unsafe=np.maximum.reduceat(by_window, firsts),
            by_window=[part.tolist() for part in np.split(by_window, firsts[1:])],
            category=category,
            language=calibrations.softmax(language),
        )

    def _verdicts(self, encoded: list[Encoded]) -> list[Verdict]:
        scores = self._score(encoded)
        best = scores.language.argmax(axis=1)
        return [
            self._verdict(
                each,
                score=float(scores.unsafe[place]),
                by_window=scores.by_window[place],
                category_scores=dict(zip(self.categories, scores.category[place].tolist(), strict=True)),
                language=self.languages[best[place]],
                language_score=float(scores.language[place, best[place]]),
            )
            for place, each in enumerate(encoded)
        ]

    def _verdict(
        self,
        encoded: Encoded,
        *,
        score: float,
        by_window: list[float],
        category_scores: dict[str, float],
        language: str,
        language_score: float,
    ) -> Verdict:
        threshold = self._calibration.threshold_for(language) if self._threshold is None else self._threshold
        flagged = score >= threshold
        least = self._calibration.category_threshold
        named = [name for name, value in category_scores.items() if value >= least]
        named.sort(key=category_scores.__getitem__, reverse=True)
        abstained = encoded.coverage < MIN_COVERAGE
        return Verdict(
            flagged=flagged,
            score=score,
            threshold=threshold,
            categories=tuple(named) if flagged else (),
            category_scores=category_scores,
            language=language,
            language_score=language_score,
            abstained=abstained,
            reason="unsupported_language" if abstained else None,
            coverage=encoded.coverage,
            spans=_spans(encoded, by_window, threshold=threshold),
        )

    def _too_short(self) -> Verdict:
        return Verdict(
            flagged=False,
            score=0.0,
            threshold=self._calibration.threshold if self._threshold is None else self._threshold,
            categories=(),
            category_scores=dict.fromkeys(self.categories, 0.0),
            language=UNKNOWN_LANGUAGE,
            language_score=0.0,
            reason="too_short",
        )


class _Scores(NamedTuple):
    """Scores of n texts: `unsafe` (n,), `category` (n, C), `language` (n, L), and the unsafe scores by window."""

    unsafe: NDArray[np.float64]
    by_window: list[list[float]]
    category: NDArray[np.float64]
    language: NDArray[np.float64]


def _spans(encoded: Encoded, by_window: list[float], *, threshold: float) -> tuple[Span, ...]:
    """Return the windows at or over the threshold, those that touch joined into one."""
    spans: list[Span] = []
    for window, score in zip(encoded.windows, by_window, strict=True):
        if score < threshold:
            continue
        if spans and window.begin <= spans[-1].end:
            spans[-1] = Span(spans[-1].begin, window.end, max(spans[-1].score, score))
        else:
            spans.append(Span(window.begin, window.end, score))
    return tuple(spans)


def _texts(texts: object, *, method: str) -> list[str]:
    """Return the texts as a list.

    Raises:
        InputError: If they are no list of str, naming the item.
    """
    items = _items(texts, method=method, item="text")
    for place, item in enumerate(items):
        if not isinstance(item, str):
            hint = "decode it first" if isinstance(item, bytes) else "pass str"
            raise InputError(f"text {place} is {type(item).__name__}, not str; {hint}")
    return items


def _pairs(pairs: object) -> list[tuple[str, str]]:
    """Return the pairs as a list.

    Raises:
        InputError: If they are no list of pairs of str, naming the item.
    """
    items = _items(pairs, method="check_pairs()", item="(prompt, response)")
    for place, item in enumerate(items):
        if not (isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(each, str) for each in item)):
            raise InputError(f"pair {place} is not a (prompt, response) of two str; use '' for an unknown prompt")
    return [(prompt, response) for prompt, response in items]


def _items(items: object, *, method: str, item: str) -> list[Any]:
    if isinstance(items, str | bytes | bytearray):
        raise InputError(f"{method} takes a list, got one {type(items).__name__}; for one, pass [{item}]")
    if isinstance(items, Mapping | AbstractSet) or not isinstance(items, Iterable):
        raise InputError(f"{method} takes a list, got {type(items).__name__}; pass [{item}, ...]")
    return list(items)
