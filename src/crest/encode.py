"""Turn text into token windows that a model can read, so that every character is read and none can hide.

Text is normalised (NFKC; invisible characters removed), split into SentencePiece tokens and cut into windows that
overlap. Each step keeps offsets, so that a window knows which characters of the original text it holds.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crest.errors import BundleError

Ids: TypeAlias = NDArray[np.int32]

BOS_ID, PAD_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
CHUNK_CHARACTERS = 8192
MAX_CLUSTER = 30  # as in Unicode's stream-safe format

# Characters that show nothing: controls, soft hyphen, zero-width and bidi marks, fillers, variation selectors, tags.
_DROPPED = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e001f\U000e007f-\U000e0fff"
)
# Controls that part words become a space, lone surrogates U+FFFD; tag characters can smuggle ASCII and are spelled out.
_REPLACED = "\x0b\x1c-\x1f\x85\ud800-\udfff\U000e0020-\U000e007e"
_IS_DROPPED = re.compile(f"[{_DROPPED}]")
_SUSPECT = re.compile(f"[{_DROPPED}{_REPLACED}]")
# Zero-width space, non-joiner and joiner are spelling in these scripts (Arabic to Myanmar; Khmer, Mongolian). The
# tokenizer reads them as a space there, as it did when the encoder was pretrained; anywhere else they only hide words.
_JOINERS = (0x200B, 0x200D)
_JOINED_SCRIPTS = ((0x0600, 0x109F), (0x1780, 0x18AF))
# Letters that compose with the letter before them; all else that does is a mark (category M).
_COMPOSING_LETTERS = re.compile("[\u1161-\u1175\u11a8-\u11c2\U00016d63\U00016d67]")


@dataclass(frozen=True, slots=True)
class Normalised:
    """A text as the model reads it.

    Attributes:
        text: The normalised text.
        starts: For each of its characters the original character that it begins at; then the original's length.
    """

    text: str
    starts: Sequence[int] | NDArray[np.int32]

    def original(self, begin: int, end: int) -> tuple[int, int]:
        """Return the stretch of the original text that holds the characters from `begin` to `end` of this one.

        An original character that became several is held whole; what was dropped belongs to the character before
        it, and at the very beginning to the first one.
        """
        if begin >= end:
            at = int(self.starts[begin])
            return at, at
        after = bisect_right(self.starts, self.starts[end - 1])
        return (int(self.starts[begin]) if begin else 0), int(self.starts[after])


def normalise(text: str) -> Normalised:
    """Bring a text into the one form that training and scoring share.

    NFKC; controls, zero-width, bidi and other invisible characters removed; lone surrogates become U+FFFD. Idempotent,
    and linear in the length of the text whatever it holds.
    """
    if _is_normal(text):
        return Normalised(text, range(len(text) + 1))
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    distinct, which = np.unique(codes, return_inverse=True)
    visible = _visible(distinct)
    codes_new = visible[which]
    kept = (codes_new != 0) | _spells(codes, codes_new)
    codes_new = np.where(codes_new == 0, codes, codes_new)[kept]
    starts = np.append(np.flatnonzero(kept), len(text)).astype(np.int32)
    edited = codes_new.tobytes().decode("utf-32-le")
    if _is_normal(edited, nfkc_only=True):
        return Normalised(edited, starts)
    composed, origins = _compose(edited, codes_new)
    return Normalised(composed, starts[origins])


def _is_normal(text: str, *, nfkc_only: bool = False) -> bool:
    """Tell whether a text is normal already, in one fast pass."""
    if text.isascii() and (nfkc_only or text.isprintable()):
        return True
    return (nfkc_only or _SUSPECT.search(text) is None) and unicodedata.is_normalized("NFKC", text)


def _visible(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Map code points one by one: 0 for one that is dropped, itself for most."""
    result = codes.copy()
    for place, code in enumerate(codes.tolist()):
        character = chr(code)
        if _SUSPECT.match(character) is None:
            continue
        if _IS_DROPPED.match(character):
            result[place] = 0
        elif 0xD800 <= code <= 0xDFFF:
            result[place] = 0xFFFD
        else:
            result[place] = code - 0xE0000 if code >= 0xE0000 else 0x20
    return result


def _spells(codes: NDArray[np.uint32], visible: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Mark the joiners that stand between two visible characters of a script that spells with them."""
    spelling = np.zeros(len(codes), dtype=np.bool_)
    joined = np.zeros(len(codes), dtype=np.bool_)
    for first, last in _JOINED_SCRIPTS:
        joined |= (visible >= first) & (visible <= last)
    spelling[1:-1] = (codes[1:-1] >= _JOINERS[0]) & (codes[1:-1] <= _JOINERS[1]) & joined[:-2] & joined[2:]
    return spelling


def _compose(text: str, codes: NDArray[np.uint32]) -> tuple[str, NDArray[np.int64]]:
    """Apply NFKC cluster by cluster.

    Returns:
        The text in NFKC, and for each of its characters (and its end) the place in `text` that it comes from.
    """
    distinct, which = np.unique(codes, return_inverse=True)
    characters = [chr(code) for code in distinct.tolist()]
    joins = np.array([_joins(character) for character in characters], dtype=np.bool_)[which]
    changes = np.array([unicodedata.normalize("NFKC", c) != c for c in characters], dtype=np.bool_)[which]
    joins[0] = False
    begins = np.flatnonzero(~joins)
    old_lengths = np.diff(np.append(begins, len(text)))
    lengths = old_lengths.copy()
    parts: list[str] = []
    known: dict[str, str] = {}
    copied = 0
    for cluster in np.flatnonzero(np.logical_or.reduceat(joins | changes, begins)).tolist():
        begin = int(begins[cluster])
        end = begin + int(old_lengths[cluster])
        old = text[begin:end]
        new = known.get(old)
        if new is None:
            new = known[old] = _nfkc(old)
        parts += (text[copied:begin], new)
        lengths[cluster] = len(new)
        copied = end
    parts.append(text[copied:])
    origins = np.repeat(begins, lengths)
    inside = np.arange(len(origins)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    origins += np.where(np.repeat(lengths == old_lengths, lengths), inside, 0)
    return "".join(parts), np.append(origins, len(text))


def _joins(character: str) -> bool:
    """Tell whether NFKC may change a character together with the one before it."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first)[0] == "M" or _COMPOSING_LETTERS.match(first) is not None


def _nfkc(cluster: str) -> str:
    """Return the NFKC of a character and its marks, in time that does not grow with the square of their number."""
    if len(cluster) <= MAX_CLUSTER:
        return unicodedata.normalize("NFKC", cluster)
    marks = "".join([unicodedata.normalize("NFKD", character) for character in cluster])
    classes = [unicodedata.combining(mark) for mark in marks]
    groups = accumulate(each == 0 for each in classes)
    ordered = sorted(zip(groups, classes, range(len(marks)), strict=True))
    return unicodedata.normalize("NFKC", "".join([marks[place] for _, _, place in ordered]))


class Tokens(NamedTuple):
    """Tokens of a text.

    Attributes:
        ids: Token ids, without special tokens.
        starts: For each token the character that it begins at, 0 for the first; then the length of the text.
    """

    ids: Ids
    starts: NDArray[np.int64]


class Tokenizer:
    """A SentencePiece model; it may be used by several threads at once.

    Args:
        path: The SentencePiece file. Its ids are the model's ids: 0 <s>, 1 <pad>, 2 </s>, 3 <unk>.

    Raises:
        BundleError: If the file cannot be read or its special ids are others.
    """

    def __init__(self, path: Path) -> None:
        """Load the model (0.2-0.4 s for 180,000 pieces, without holding the interpreter lock)."""
        import sentencepiece  # noqa: PLC0415  # `import crest` stays fast

        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise BundleError(f"{path} is not a SentencePiece model ({error}); install the model again") from error
        special = (self._model.bos_id(), self._model.pad_id(), self._model.eos_id(), self._model.unk_id())
        if special != (BOS_ID, PAD_ID, EOS_ID, UNK_ID):
            raise BundleError(f"{path} has the special ids {special}; a bundle needs <s> 0, <pad> 1, </s> 2, <unk> 3")

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of normalised texts, without special tokens."""
        short = [text for text in texts if len(text) <= CHUNK_CHARACTERS]
        encoded = iter(self._model.encode(short, out_type="numpy", num_threads=1) if short else ())
        return [next(encoded) if len(text) <= CHUNK_CHARACTERS else self.encode(text).ids for text in texts]

    def encode(self, text: str) -> Tokens:
        """Return the ids of one normalised text with their offsets.

        A long text is encoded in chunks that end at white space, which gives the same ids, since no token spans words.
        Only a stretch of more than 8,192 characters without a space is cut inside; there tokens may differ at the cut.
        """
        ids: list[int] = []
        starts: list[int] = []
        for begin, end in _chunks(text):
            mapping = self._model.encode(text[begin:end], out_type="offset_mapping")
            ids += mapping["ids"]
            starts += [begin + offset[0] for offset in mapping["offsets"]]
        starts.append(len(text))
        if ids:
            starts[0] = 0
        return Tokens(np.array(ids, dtype=np.int32), np.array(starts, dtype=np.int64))


def _chunks(text: str) -> list[tuple[int, int]]:
    """Cut a text into stretches of bounded length, before white space where there is some."""
    chunks = []
    begin = 0
    while len(text) - begin > CHUNK_CHARACTERS:
        limit = begin + CHUNK_CHARACTERS
        space = max(text.rfind(" ", begin + 1, limit), text.rfind("\n", begin + 1, limit))
        end = space if space > begin else limit
        chunks.append((begin, end))
        begin = end
    chunks.append((begin, len(text)))
    return chunks


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text that the model reads at once.

    Attributes:
        ids: Token ids with the special tokens.
        begin: First character that it holds, in the original text.
        end: The character after the last one.
    """

    ids: Ids
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text, ready to be scored.

    Attributes:
        windows: What the model reads, in order; none for a text with nothing to read.
        coverage: Share of the original characters that the model can read; less than 1 if the vocabulary lacks some.
    """

    windows: tuple[Window, ...]
    coverage: float


@dataclass(frozen=True, slots=True)
class WindowSize:
    """How long windows are.

    Attributes:
        max_tokens: Length of a window, with its special tokens.
        overlap_tokens: How many tokens a window shares with the one before it.
    """

    max_tokens: int
    overlap_tokens: int


def encode_texts(texts: Sequence[str], *, tokenizer: Tokenizer, size: WindowSize) -> list[Encoded]:
    """Encode original texts; each window is `<s> text </s>`."""
    return _encode(texts, [()] * len(texts), tokenizer=tokenizer, size=size)


def encode_pairs(pairs: Sequence[tuple[str, str]], *, tokenizer: Tokenizer, size: WindowSize) -> list[Encoded]:
    """Encode pairs of a prompt and a response; each window is `<s> prompt </s></s> response </s>`.

    Windows run over the response. Each begins with the same prompt: its last tokens, in at most half of the window. An
    empty prompt leaves the windows of the response alone.
    """
    prompts = tokenizer.encode_batch([normalise(prompt).text for prompt, _ in pairs])
    room = (size.max_tokens - 4) // 2
    return _encode([text for _, text in pairs], [ids[-room:] for ids in prompts], tokenizer=tokenizer, size=size)


def _encode(
    texts: Sequence[str], prompts: Sequence[Ids | tuple[()]], *, tokenizer: Tokenizer, size: WindowSize
) -> list[Encoded]:
    normalised = [normalise(text) for text in texts]
    batch = tokenizer.encode_batch([each.text for each in normalised])
    result = []
    for text, normal, ids, prompt in zip(texts, normalised, batch, prompts, strict=True):
        head = [BOS_ID, *prompt, EOS_ID, EOS_ID] if len(prompt) else [BOS_ID]
        room = size.max_tokens - len(head) - 1
        readable = not (ids == UNK_ID).any()
        if len(ids) == 0:
            result.append(Encoded((), 1.0))
        elif len(ids) <= room and readable:
            result.append(Encoded((Window(_wrap(head, ids), 0, len(text)),), 1.0))
        else:
            tokens = tokenizer.encode(normal.text)
            overlap = size.overlap_tokens * room // (size.max_tokens - 2)
            windows = _windows(tokens, normal, head=head, room=room, overlap=overlap)
            result.append(Encoded(windows, 1.0 if readable else _readable_share(tokens, normal)))
    return result


def _wrap(head: list[int], ids: Ids) -> Ids:
    window = np.empty(len(head) + len(ids) + 1, dtype=np.int32)
    window[: len(head)] = head
    window[len(head) : -1] = ids
    window[-1] = EOS_ID
    return window


def _windows(tokens: Tokens, normal: Normalised, *, head: list[int], room: int, overlap: int) -> tuple[Window, ...]:
    """Cut tokens into overlapping windows; the last one is moved back so that it is full, too."""
    count = len(tokens.ids)
    firsts = [*range(0, max(count - room, 0), room - overlap), max(count - room, 0)]
    windows = []
    for first in firsts:
        last = min(first + room, count)
        begin, end = normal.original(int(tokens.starts[first]), int(tokens.starts[last]))
        windows.append(Window(_wrap(head, tokens.ids[first:last]), begin, end))
    return tuple(windows)


def _readable_share(tokens: Tokens, normal: Normalised) -> float:
    """Return the share of original characters in tokens that the vocabulary knows."""
    starts = np.asarray(normal.starts)[tokens.starts]
    unknown = np.diff(starts)[tokens.ids == UNK_ID].sum()
    return 1.0 - float(unknown) / int(starts[-1])
