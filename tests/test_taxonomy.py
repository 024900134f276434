"""Every label of every scheme is covered, and scores follow the rule that the tables show."""

from collections.abc import Callable, Mapping

import pytest

from crest import taxonomy
from crest.errors import InputError
from crest.taxonomy import CATEGORIES, DESCRIPTIONS, Scheme

SCHEMES = {
    "openai": (taxonomy.OPENAI, taxonomy.to_openai, taxonomy.from_openai, 13),
    "mlcommons": (taxonomy.MLCOMMONS, taxonomy.to_mlcommons, taxonomy.from_mlcommons, 14),
    "aegis": (taxonomy.AEGIS, taxonomy.to_aegis, taxonomy.from_aegis, 21),
    "perspective": (taxonomy.PERSPECTIVE, taxonomy.to_perspective, taxonomy.from_perspective, 7),
}
To = Callable[[Mapping[str, float]], dict[str, float]]
From = Callable[[str], str | None]
every_scheme = pytest.mark.parametrize(("scheme", "to", "from_", "count"), SCHEMES.values(), ids=SCHEMES.keys())


def _scores(**high: float) -> dict[str, float]:
    """Score every category 0 except those named, with _ for the hyphen."""
    return dict.fromkeys(CATEGORIES, 0.0) | {name.replace("_", "-"): score for name, score in high.items()}


def test_there_are_14_categories_in_the_order_of_the_models_head() -> None:
    assert tuple(DESCRIPTIONS) == CATEGORIES
    assert list(CATEGORIES) == [
        *("violence", "weapons", "drugs", "self-harm", "sexual", "hate", "harassment"),
        *("fraud", "crime", "malware", "privacy", "extremism", "misinformation", "jailbreak"),
    ]
    assert len(CATEGORIES) == 14


def test_every_category_has_a_description_of_one_line() -> None:
    assert all(text.endswith(".") and "\n" not in text for text in DESCRIPTIONS.values())
    assert len(set(DESCRIPTIONS.values())) == 14


def test_openais_names_are_those_of_its_moderation_interface() -> None:
    assert taxonomy.OPENAI.labels == (
        *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
        *("self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors"),
        *("violence", "violence/graphic"),
    )


def test_mlcommons_is_numbered_from_s1_to_s14() -> None:
    assert taxonomy.MLCOMMONS.labels == tuple(f"S{number}" for number in range(1, 15))
    assert len(set(taxonomy.MLCOMMONS_NAMES.values())) == 14


def test_aegis_has_12_core_and_9_fine_grained_hazards() -> None:
    assert (len(taxonomy.AEGIS_CORE), len(taxonomy.AEGIS_FINE)) == (12, 9)
    assert taxonomy.AEGIS.labels == taxonomy.AEGIS_CORE + taxonomy.AEGIS_FINE


def test_perspectives_attributes_are_those_of_its_interface() -> None:
    assert taxonomy.PERSPECTIVE.labels == (
        *("TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT", "SEXUALLY_EXPLICIT"),
    )


@every_scheme
def test_every_label_of_a_scheme_is_scored_in_its_order(scheme: Scheme, to: To, from_: From, count: int) -> None:
    assert tuple(to(_scores())) == scheme.labels
    assert len(scheme.labels) == count


@every_scheme
def test_every_label_gives_one_of_our_categories_or_none(scheme: Scheme, to: To, from_: From, count: int) -> None:
    found = [from_(label) for label in scheme.labels]
    assert len(found) == count
    assert set(found) <= {*CATEGORIES, None}


@every_scheme
def test_the_rules_name_only_our_categories(scheme: Scheme, to: To, from_: From, count: int) -> None:
    parts = {part for rule in scheme.rules.values() for alternative in rule.scored_by for part in alternative}
    assert parts <= set(CATEGORIES)


@every_scheme
def test_a_text_without_harm_has_no_harm_in_any_scheme(scheme: Scheme, to: To, from_: From, count: int) -> None:
    assert set(to(_scores()).values()) == {0.0}


@every_scheme
def test_only_the_unscored_labels_stay_at_0_when_all_is_harm(scheme: Scheme, to: To, from_: From, count: int) -> None:
    zero = tuple(label for label, score in to(dict.fromkeys(CATEGORIES, 1.0)).items() if score == 0)
    assert zero == scheme.unscored


@every_scheme
def test_a_scored_label_with_a_category_is_scored_by_it(scheme: Scheme, to: To, from_: From, count: int) -> None:
    for label, rule in scheme.rules.items():
        parts = {part for alternative in rule.scored_by for part in alternative}
        assert not parts or rule.category in parts, label


@every_scheme
def test_a_label_is_found_in_any_case(scheme: Scheme, to: To, from_: From, count: int) -> None:
    assert [from_(f" {label.swapcase()} ") for label in scheme.labels] == [from_(label) for label in scheme.labels]


@every_scheme
def test_a_label_of_another_scheme_is_refused(scheme: Scheme, to: To, from_: From, count: int) -> None:
    with pytest.raises(InputError, match=rf"no label of {scheme.name}; its labels are {scheme.labels[0]}"):
        from_("nonsense")


@every_scheme
def test_scores_without_one_of_our_categories_are_refused(scheme: Scheme, to: To, from_: From, count: int) -> None:
    scores = _scores()
    del scores["fraud"]
    with pytest.raises(InputError, match="missing or unknown: fraud"):
        to(scores)


@every_scheme
def test_scores_with_a_word_beside_the_14_are_refused(scheme: Scheme, to: To, from_: From, count: int) -> None:
    with pytest.raises(InputError, match="missing or unknown: spam"):
        to(_scores(spam=0.5))


def test_an_alternative_scores_the_maximum() -> None:
    assert taxonomy.to_openai(_scores(drugs=0.3, fraud=0.8))["illicit"] == 0.8


def test_a_combination_scores_the_minimum() -> None:
    scores = taxonomy.to_openai(_scores(hate=0.9, violence=0.4))
    assert (scores["hate"], scores["hate/threatening"], scores["harassment/threatening"]) == (0.9, 0.4, 0.0)


def test_an_adult_sexual_text_is_not_reported_as_sexual_content_about_minors() -> None:
    scores = _scores(sexual=1.0)
    assert taxonomy.to_openai(scores)["sexual/minors"] == 0
    assert taxonomy.to_mlcommons(scores)["S4"] == 0
    assert taxonomy.to_aegis(scores)["Sexual (minor)"] == 0


def test_the_unscored_labels_are_those_of_the_docstrings() -> None:
    assert {name: len(scheme.unscored) for name, (scheme, *_) in SCHEMES.items()} == {
        "openai": 2,
        "mlcommons": 5,
        "aegis": 7,
        "perspective": 1,
    }


@pytest.mark.parametrize("label", ["S10", "s10", "Hate", "S10: Hate"])
def test_a_hazard_of_mlcommons_is_found_by_number_or_name(label: str) -> None:
    assert taxonomy.from_mlcommons(label) == "hate"


@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("Guns/Illegal Weapons", "weapons"),
        ("Sexual Minor", "sexual"),
        ("High Risk Gov. Decision Making", None),
        ("Needs Caution", None),
        ("Other", None),
        ("Safe", None),
    ],
)
def test_the_other_spellings_of_aegis_are_found(label: str, category: str | None) -> None:
    assert taxonomy.from_aegis(label) == category


@pytest.mark.parametrize(
    ("label", "category"),
    [("general", None), ("response", None), ("threat", "violence"), ("animal-cruelty", "violence")],
)
def test_the_words_of_our_data_beside_the_14_are_found(label: str, category: str | None) -> None:
    assert taxonomy.from_corpus(label) == category


def test_our_own_categories_are_found_as_they_are() -> None:
    assert tuple(taxonomy.from_corpus(category) for category in CATEGORIES) == CATEGORIES


def test_an_unknown_word_of_our_data_is_refused() -> None:
    with pytest.raises(InputError, match="unknown category 'spam'; use one of violence"):
        taxonomy.from_corpus("spam")
