"""The table has every language once, and a code is found however it is written."""

import subprocess
import sys

import pytest

from crest import languages
from crest.errors import InputError
from crest.languages import PAPER_OOD, PAPER_SOURCES, all_languages, canonical, get

ISO_CODES = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id "
    "is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si "
    "sk sl so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh "
).split()
BONUS = "ceb ht ig lb mt ny rw sn tg tk tt yo zu".split()
ROMANISED = "ar bn el fa hi ru ta te ur".split()


def test_the_table_has_116_varieties_in_the_order_of_their_codes() -> None:
    codes = [language.code for language in all_languages()]
    assert len(codes) == 116
    assert codes == sorted(set(codes))


def test_the_table_is_the_93_iso_codes_the_bonus_the_romanised_and_traditional_chinese() -> None:
    romanised = [f"{code}-Latn" for code in ROMANISED]
    assert len(ISO_CODES) == 93
    assert sorted([*ISO_CODES, *BONUS, *romanised, "zh-Hant"]) == [language.code for language in all_languages()]


def test_every_row_has_a_name_a_script_and_a_family() -> None:
    for language in all_languages():
        assert language.name and language.family
        assert len(language.script) == 4 and language.script == language.script.title()


def test_the_rows_of_each_tier_are_counted() -> None:
    tiers = [language.tier for language in all_languages()]
    assert {tier: tiers.count(tier) for tier in sorted(set(tiers))} == {"high": 26, "low": 63, "mid": 27}


def test_99_of_the_hundred_varieties_of_xlmr_have_a_row() -> None:
    assert sum(language.xlmr for language in all_languages()) == 99
    assert not any(get(code).xlmr for code in BONUS)


def test_exactly_the_latn_varieties_are_romanised() -> None:
    romanised = [language.code for language in all_languages() if language.romanised]
    assert romanised == [f"{code}-Latn" for code in ROMANISED]
    assert {get(code).script for code in romanised} == {"Latn"}


def test_names_are_unique() -> None:
    names = [language.name for language in all_languages()]
    assert len(set(names)) == len(names) == 116


def test_the_papers_lists_are_disjoint_and_known() -> None:
    assert len(PAPER_SOURCES) == 13
    assert len(PAPER_OOD) == 11
    assert not set(PAPER_SOURCES) & set(PAPER_OOD)
    assert [canonical(code) for code in PAPER_SOURCES + PAPER_OOD] == [*PAPER_SOURCES, *PAPER_OOD]


def test_every_code_finds_its_own_row() -> None:
    found = [get(language.code) for language in all_languages()]
    assert len(found) == 116
    assert found == list(all_languages())


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("SW", "sw"),
        ("hi-latn", "hi-Latn"),
        ("hi_Latn", "hi-Latn"),
        ("HI-LATN-IN", "hi-Latn"),
        ("hi-Deva", "hi"),
        ("pt-BR", "pt"),
        ("en_US", "en"),
        ("de-DE-1996", "de"),
        ("fil", "tl"),
        ("fil-PH", "tl"),
        ("iw", "he"),
        ("in", "id"),
        ("nb", "no"),
        ("nn-NO", "no"),
        ("jw", "jv"),
        ("zh-TW", "zh-Hant"),
        ("zh-HK", "zh-Hant"),
        ("zh_mo", "zh-Hant"),
        ("zh-hant-tw", "zh-Hant"),
        ("zh-CN", "zh"),
        ("zh-Hans", "zh"),
        ("zh-Hans-HK", "zh"),
        ("cmn-Hant", "zh-Hant"),
        (" en ", "en"),
    ],
)
def test_a_code_is_found_however_it_is_written(written: str, code: str) -> None:
    assert canonical(written) == code


def test_every_alias_leads_to_a_row() -> None:
    assert len(languages._ALIASES) == 24
    assert {canonical(alias) for alias in languages._ALIASES} <= {language.code for language in all_languages()}


def test_no_alias_hides_a_row() -> None:
    assert not set(languages._ALIASES) & {language.code for language in all_languages()}


@pytest.mark.parametrize("code", ["", "-", "xx", "tlh", "Klingon", "zh-Latn", "sr-Latn", "my-Qaag", "yue", "12"])
def test_an_unknown_code_says_where_the_codes_are(code: str) -> None:
    with pytest.raises(InputError, match=r"unknown language .*all_languages\(\) lists all codes"):
        get(code)


@pytest.mark.parametrize(
    ("wrong", "suggestion"),
    [
        ("Swahili", "'sw' (Swahili)"),
        ("germn", "'de' (German)"),
        ("sr-Latn", "'sr' (Serbian)"),
        ("fil-Tglg", "'tl' (Tagalog)"),
    ],
)
def test_an_unknown_code_suggests_the_nearest(wrong: str, suggestion: str) -> None:
    with pytest.raises(InputError) as caught:
        get(wrong)
    assert f"did you mean {suggestion}?" in str(caught.value)


def test_a_code_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(InputError) as caught:
        get("12345678")
    assert "did you mean" not in str(caught.value)


def test_importing_the_module_does_not_read_the_table() -> None:
    code = "from crest import languages; assert languages._table.cache_info().currsize == 0"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
