"""The 14 harm categories, with maps to and from the category names of other schemes.

A scheme's table says two things for each of its labels: `category`, which of our 14 a text with that label belongs to
(None if we have none), and `scored_by`, how its score follows from ours: the maximum over the alternatives, and within
an alternative the minimum of its parts, so that (("hate", "violence"),) reads "hate and violence". A label that nothing
of ours speaks for has no alternative and always scores 0: these are listed by `Scheme.unscored`, because a caller must
not read that 0 as "safe".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from crest.errors import InputError

DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "violence": "Killing, hurting or threatening people or animals, or praising it.",
        "weapons": "Getting, making, hiding or misusing guns, explosives, poisons and other arms.",
        "drugs": "Making, buying, selling, smuggling or giving controlled drugs.",
        "self-harm": "Suicide, self-injury or eating disorders: one's own intent, methods, or urging someone to it.",
        "sexual": "Sexually explicit requests and content, sexual abuse, and anything sexual about children.",
        "hate": "Attacking or demeaning people for what they are: origin, religion, sex, orientation, disability.",
        "harassment": "Insulting, bullying, humiliating or stalking a person.",
        "fraud": "Cheating people or institutions out of money or goods: scams, forgery, false claims.",
        "crime": "Other crime: theft, trafficking, bribery, arson, vandalism, evading the law.",
        "malware": "Malicious software, breaking into systems and accounts, attacks on networks.",
        "privacy": "Finding, exposing or watching people against their will: doxxing, spying, tracking, leaked data.",
        "extremism": "Joining, praising, funding or recruiting for violent movements and terrorism.",
        "misinformation": "Making or spreading falsehoods that do harm: health, elections, conspiracies, fake reviews.",
        "jailbreak": "Talking an assistant out of its rules, or hiding a harmful request in a disguise.",
    }
)
CATEGORIES: tuple[str, ...] = tuple(DESCRIPTIONS)
"""Our 14 categories, in the order of the category head of every bundle."""

_EXTRA_WORDS: Mapping[str, str | None] = MappingProxyType(
    {"general": None, "response": None, "threat": "violence", "animal-cruelty": "violence"}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one label of a scheme relates to our categories; see the module's docstring."""

    category: str | None
    scored_by: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    """The labels of another scheme and what they mean in ours.

    Attributes:
        name: What the scheme is called in messages.
        rules: One rule for each label, in the scheme's order.
        aliases: Other spellings, in lower case, and the label that each stands for; None if it is no category.
    """

    name: str
    rules: Mapping[str, Rule]
    aliases: Mapping[str, str | None]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the scheme, in its order."""
        return tuple(self.rules)

    @property
    def unscored(self) -> tuple[str, ...]:
        """The labels that always score 0, because none of our categories speaks for them."""
        return tuple(label for label, rule in self.rules.items() if not rule.scored_by)


def _same(category: str) -> Rule:
    return Rule(category, ((category,),))


def _any(*categories: str) -> Rule:
    return Rule(categories[0], tuple((category,) for category in categories))


def _all(*categories: str) -> Rule:
    return Rule(categories[0], (categories,))


def _unscored(category: str | None = None) -> Rule:
    return Rule(category, ())


OPENAI = Scheme(
    "OpenAI",
    MappingProxyType(
        {
            "harassment": _same("harassment"),
            "harassment/threatening": _all("harassment", "violence"),
            "hate": _same("hate"),
            "hate/threatening": _all("hate", "violence"),
            "illicit": _any("crime", "drugs", "weapons", "fraud", "malware"),
            "illicit/violent": Rule("weapons", (("weapons",), ("crime", "violence"), ("extremism", "violence"))),
            "self-harm": _same("self-harm"),
            "self-harm/intent": _same("self-harm"),
            "self-harm/instructions": _same("self-harm"),
            "sexual": _same("sexual"),
            "sexual/minors": _unscored("sexual"),
            "violence": _any("violence", "extremism"),
            "violence/graphic": _unscored("violence"),
        }
    ),
    MappingProxyType({}),
)

_MLCOMMONS_RULES: Mapping[str, tuple[str, Rule]] = MappingProxyType(
    {
        "S1": ("Violent Crimes", _any("violence", "extremism")),
        "S2": ("Non-Violent Crimes", _any("crime", "fraud", "drugs", "malware", "weapons")),
        "S3": ("Sex-Related Crimes", Rule("sexual", (("sexual", "crime"), ("sexual", "violence")))),
        "S4": ("Child Sexual Exploitation", _unscored("sexual")),
        "S5": ("Defamation", _unscored("harassment")),
        "S6": ("Specialized Advice", _unscored()),
        "S7": ("Privacy", _same("privacy")),
        "S8": ("Intellectual Property", _unscored()),
        "S9": ("Indiscriminate Weapons", _same("weapons")),
        "S10": ("Hate", _same("hate")),
        "S11": ("Suicide & Self-Harm", _same("self-harm")),
        "S12": ("Sexual Content", _same("sexual")),
        "S13": ("Elections", _same("misinformation")),
        "S14": ("Code Interpreter Abuse", _unscored("malware")),
    }
)
MLCOMMONS_NAMES: Mapping[str, str] = MappingProxyType({code: name for code, (name, _) in _MLCOMMONS_RULES.items()})
"""The hazards S1-S14 by name: the taxonomy of MLCommons with the code interpreter, as Llama Guard 3 numbers them."""

MLCOMMONS = Scheme(
    "MLCommons",
    MappingProxyType({code: rule for code, (_, rule) in _MLCOMMONS_RULES.items()}),
    MappingProxyType(
        {name.lower(): code for code, name in MLCOMMONS_NAMES.items()}
        | {f"{code}: {name}".lower(): code for code, name in MLCOMMONS_NAMES.items()}
    ),
)

_AEGIS_CORE: Mapping[str, Rule] = MappingProxyType(
    {
        "Violence": _any("violence", "extremism"),
        "Sexual": _same("sexual"),
        "Criminal Planning/Confessions": _same("crime"),
        "Guns and Illegal Weapons": _same("weapons"),
        "Controlled/Regulated Substances": _same("drugs"),
        "Suicide and Self Harm": _same("self-harm"),
        "Sexual (minor)": _unscored("sexual"),
        "Hate/Identity Hate": _same("hate"),
        "PII/Privacy": _same("privacy"),
        "Harassment": _same("harassment"),
        "Threat": Rule("violence", (("violence", "harassment"),)),
        "Profanity": _unscored(),
    }
)
_AEGIS_FINE: Mapping[str, Rule] = MappingProxyType(
    {
        "Illegal Activity": _any("crime", "drugs", "fraud", "weapons"),
        "Immoral/Unethical": _unscored(),
        "Unauthorized Advice": _unscored(),
        "Political/Misinformation/Conspiracy": _same("misinformation"),
        "Fraud/Deception": _same("fraud"),
        "Copyright/Trademark/Plagiarism": _unscored(),
        "High Risk Gov Decision Making": _unscored(),
        "Malware": _same("malware"),
        "Manipulation": _unscored(),
    }
)
AEGIS_CORE: tuple[str, ...] = tuple(_AEGIS_CORE)
"""The 12 core hazards of Aegis 2.0, spelt as in its data set."""

AEGIS_FINE: tuple[str, ...] = tuple(_AEGIS_FINE)
"""The 9 fine-grained hazards of Aegis 2.0, spelt as in its data set."""

AEGIS = Scheme(
    "Aegis 2.0",
    MappingProxyType({**_AEGIS_CORE, **_AEGIS_FINE}),
    MappingProxyType(
        {
            "guns/illegal weapons": "Guns and Illegal Weapons",
            "sexual minor": "Sexual (minor)",
            "high risk gov. decision making": "High Risk Gov Decision Making",
            "needs caution": None,
            "other": None,
            "safe": None,
        }
    ),
)

PERSPECTIVE = Scheme(
    "Perspective",
    MappingProxyType(
        {
            "TOXICITY": _any("harassment", "hate", "violence"),
            "SEVERE_TOXICITY": Rule(
                "harassment", (("harassment", "hate"), ("harassment", "violence"), ("hate", "violence"))
            ),
            "IDENTITY_ATTACK": _same("hate"),
            "INSULT": _same("harassment"),
            "PROFANITY": _unscored(),
            "THREAT": _same("violence"),
            "SEXUALLY_EXPLICIT": _same("sexual"),
        }
    ),
    MappingProxyType({}),
)


def to_openai(scores: Mapping[str, float]) -> dict[str, float]:
    """Turn the scores of our 14 categories into those of OpenAI's 13.

    We do not tell the sub-categories of self-harm apart: both carry its score. `sexual/minors` and `violence/graphic`
    always score 0 here (such a text still raises `sexual` and `violence`), because nothing of ours is about them alone.
    OpenAI has no place for our privacy, misinformation and jailbreak.

    Raises:
        InputError: If the scores are not those of exactly our 14 categories.
    """
    return _to(OPENAI, scores)


def to_mlcommons(scores: Mapping[str, float]) -> dict[str, float]:
    """Turn the scores of our 14 categories into those of MLCommons' S1 to S14; `MLCOMMONS_NAMES` has their names.

    S4 (child sexual exploitation), S5 (defamation), S6 (specialised advice), S8 (intellectual property) and S14 (code
    interpreter abuse) always score 0. S13 (elections) carries all misinformation. MLCommons has no place for our
    harassment and jailbreak.

    Raises:
        InputError: If the scores are not those of exactly our 14 categories.
    """
    return _to(MLCOMMONS, scores)


def to_aegis(scores: Mapping[str, float]) -> dict[str, float]:
    """Turn the scores of our 14 categories into those of Aegis 2.0: the 12 core hazards, then the 9 fine-grained ones.

    `Sexual (minor)`, `Profanity` (harmless swearing is safe in our policy), `Immoral/Unethical`, `Unauthorized Advice`,
    `Copyright/Trademark/Plagiarism`, `High Risk Gov Decision Making` and `Manipulation` always score 0. Aegis has no
    place for our jailbreak.

    Raises:
        InputError: If the scores are not those of exactly our 14 categories.
    """
    return _to(AEGIS, scores)


def to_perspective(scores: Mapping[str, float]) -> dict[str, float]:
    """Turn the scores of our 14 categories into those of Perspective's 7 attributes.

    Perspective grades the tone of a comment, we grade harm, so these are the nearest we have and not the same measure.
    `PROFANITY` always scores 0. Perspective speaks of hate, harassment, violence and sexual content alone.

    Raises:
        InputError: If the scores are not those of exactly our 14 categories.
    """
    return _to(PERSPECTIVE, scores)


def from_openai(label: str) -> str | None:
    """Return our category for a name of OpenAI's.

    Raises:
        InputError: If OpenAI has no such name.
    """
    return _from(OPENAI, label)


def from_mlcommons(label: str) -> str | None:
    """Return our category for a hazard, written `S10`, `Hate` or `S10: Hate`, or None if we have none.

    Raises:
        InputError: If MLCommons has no such hazard.
    """
    return _from(MLCOMMONS, label)


def from_aegis(label: str) -> str | None:
    """Return our category for a hazard of Aegis 2.0, or None if we have none.

    The data set's `Safe`, `Needs Caution` and `Other` are taken too, and give None.

    Raises:
        InputError: If Aegis 2.0 has no such hazard.
    """
    return _from(AEGIS, label)


def from_perspective(label: str) -> str | None:
    """Return our category for an attribute of Perspective's, or None if we have none.

    Raises:
        InputError: If Perspective has no such attribute.
    """
    return _from(PERSPECTIVE, label)


def from_corpus(label: str) -> str | None:
    """Return our category for the category column of our own data, which has a few words beside the 14.

    `threat` and `animal-cruelty` are violence; `general` (everyday text) and `response` (a reply to anything) are none.

    Raises:
        InputError: If the word is neither one of the 14 nor one of these four.
    """
    if label in DESCRIPTIONS:
        return label
    if label in _EXTRA_WORDS:
        return _EXTRA_WORDS[label]
    raise InputError(f"unknown category {label!r}; use one of {', '.join((*CATEGORIES, *_EXTRA_WORDS))}")


def _to(scheme: Scheme, scores: Mapping[str, float]) -> dict[str, float]:
    if scores.keys() != DESCRIPTIONS.keys():
        wrong = sorted(set(scores) ^ set(CATEGORIES))
        raise InputError(f"scores must be those of exactly the 14 categories; missing or unknown: {', '.join(wrong)}")
    return {
        label: max((min(float(scores[part]) for part in parts) for parts in rule.scored_by), default=0.0)
        for label, rule in scheme.rules.items()
    }


def _from(scheme: Scheme, label: str) -> str | None:
    wanted = label.strip().lower()
    if wanted in scheme.aliases:
        target = scheme.aliases[wanted]
        return None if target is None else scheme.rules[target].category
    for name, rule in scheme.rules.items():
        if name.lower() == wanted:
            return rule.category
    raise InputError(f"{label!r} is no label of {scheme.name}; its labels are {', '.join(scheme.labels)}")
