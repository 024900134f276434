"""Look up languages: one row of `languages.tsv` for each variety that the project has data for.

`tier` follows Joshi et al. 2020, "The State and Fate of Linguistic Diversity and Inclusion in the NLP World": classes
4 and 5 are `high`, class 3 is `mid`, classes 0 to 2 are `low`. Where their list names no such variety we decide:
Traditional Chinese takes the class of Chinese, and every romanised variety is `low`, because little of it is written
down as data. Taken literally the list holds surprises (Norwegian is class 1, Latin class 3), and three of the paper's
thirteen sources are not `high` in it (Tamil and Tagalog are `mid`, Swahili is `low`).

`xlmr` marks the varieties that XLM-R was pretrained on. Of its hundred, Zawgyi Burmese alone has no row: it is an
encoding of Burmese rather than a language, and there is no data for it here.
"""

import csv
import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal, TypeAlias, cast

from crest.errors import InputError

Tier: TypeAlias = Literal["high", "mid", "low"]

PAPER_SOURCES = ("es", "en", "de", "ru", "cs", "fi", "hi", "ta", "zh", "vi", "ar", "sw", "tl")
"""The thirteen languages that the paper trains on."""

PAPER_OOD = ("gl", "is", "af", "sl", "si", "th", "mr", "ps", "jv", "ha", "ka")
"""The eleven low-resource languages that the paper tests on without training on them."""

_ALIASES = MappingProxyType(
    {
        # Codes that BCP 47 has retired.
        "in": "id",
        "iw": "he",
        "ji": "yi",
        "jw": "jv",
        "mo": "ro",
        # Members of a macrolanguage, or two names of one standard.
        "arb": "ar",
        "azj": "az",
        "cmn": "zh",
        "ekk": "et",
        "fil": "tl",
        "gaz": "om",
        "khk": "mn",
        "kmr": "ku",
        "lvs": "lv",
        "nb": "no",
        "nn": "no",
        "npi": "ne",
        "ory": "or",
        "pes": "fa",
        "plt": "mg",
        "swh": "sw",
        "uzn": "uz",
        "ydd": "yi",
        "zsm": "ms",
    }
)
_TRADITIONAL_REGIONS = frozenset({"tw", "hk", "mo"})


@dataclass(frozen=True, slots=True)
class Language:
    """One language variety.

    Attributes:
        code: BCP-47 code, such as `sw`, `hi-Latn` or `zh-Hant`.
        name: English name.
        script: ISO 15924 code of the script that it is written in here.
        family: Language family, with the branch after a comma where the family is large.
        tier: Resource tier: `high`, `mid` or `low`; the rule is in the module's docstring.
        xlmr: True if XLM-R (and so multilingual-e5) was pretrained on it.
        romanised: True if it is typed in Latin letters instead of its own script.
        cluster: Number of its cluster, or None until it is known.
    """

    code: str
    name: str
    script: str
    family: str
    tier: Tier
    xlmr: bool
    romanised: bool
    cluster: int | None


def all_languages() -> tuple[Language, ...]:
    """Return every language of the table, sorted by code."""
    return tuple(_table().values())


def get(code: str) -> Language:
    """Look up a language by its BCP-47 code, in any case and with any region.

    Raises:
        InputError: If the table has no such language; the message suggests the nearest.
    """
    table = _table()
    for candidate in _candidates(code):
        if candidate in table:
            return table[candidate]
    raise InputError(f"unknown language {code!r}; {_suggestion(code)}crest.languages.all_languages() lists all codes")


def canonical(code: str) -> str:
    """Return the code under which the table knows a language: `fil-PH` gives `tl`, `ZH_hk` gives `zh-Hant`.

    Raises:
        InputError: If the table has no such language; the message suggests the nearest.
    """
    return get(code).code


@functools.cache
def _table() -> Mapping[str, Language]:
    """Read `languages.tsv` once."""
    text = resources.files("crest").joinpath("languages.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    languages = (
        Language(
            code=row["code"],
            name=row["name"],
            script=row["script"],
            family=row["family"],
            tier=cast("Tier", row["tier"]),
            xlmr=row["xlmr"] == "yes",
            romanised=row["romanised"] == "yes",
            cluster=int(row["cluster"]) if row["cluster"] else None,
        )
        for row in rows
    )
    return MappingProxyType({language.code: language for language in languages})


def _candidates(code: str) -> tuple[str, ...]:
    """List the table's codes that a BCP-47 code may stand for; none if its script is another than the table's."""
    language, *subtags = code.strip().replace("_", "-").lower().split("-")
    language = _ALIASES.get(language, language)
    script = next((subtag.title() for subtag in subtags if len(subtag) == 4 and subtag.isalpha()), None)
    if script is None and language == "zh" and _TRADITIONAL_REGIONS.intersection(subtags):
        script = "Hant"
    if script is None:
        return (language,)
    own = _table().get(language)
    return (f"{language}-{script}", language) if own and own.script == script else (f"{language}-{script}",)


def _suggestion(code: str) -> str:
    """Name the language of the same subtag, else of the nearest code or name, as a question; empty if none is near."""
    known = {language.code.lower(): language for language in all_languages()}
    known |= {language.name.lower(): language for language in all_languages()}
    wanted = code.strip().replace("_", "-").lower()
    subtag = wanted.split("-")[0]
    nearest = _ALIASES.get(subtag, subtag)
    if nearest not in known:
        nearest = next(iter(difflib.get_close_matches(wanted, known, n=1)), "")
    return f"did you mean {known[nearest].code!r} ({known[nearest].name})? " if nearest else ""
