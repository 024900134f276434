"""Write a bundle's card: what the model is, what it was trained on under which licences, and where its limits are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from crest.pipeline.recipe import Recipe

TEMPLATE = Path(__file__).with_name("card.md")
LICENCES: Mapping[str, str] = {
    "corpus": "CC0-1.0",
    "seeds": "CC0-1.0",
    "translated": "CC0-1.0",
    "dialogues": "CC0-1.0",
    "switched": "CC0-1.0 lines with words of Wiktionary, FreeDict and others (CC-BY-SA, GPL)",
    "monolingual": "sentences of open corpora (CC-BY, CC-BY-SA, public domain)",
    "catqa": "Apache-2.0",
    "harmful_qa": "Apache-2.0",
    "sap200": "Apache-2.0",
    "tdc2023": "MIT",
    "ailuminate_demo": "CC-BY-4.0",
    "aisafetylab_zh": "MIT",
    "gptfuzz_responses": "MIT",
    "dices_990": "CC-BY-4.0",
    "benign_injongo": "Apache-2.0",
    "benign_afriqa": "CC-BY-4.0",
    "benign_xsid": "CC-BY-SA-4.0",
    "benign_xquad_questions": "CC-BY-SA-4.0",
    "benign_m_ifeval": "MIT",
    "benign_certified": "MIT",
    "benign_xcopa": "CC-BY-4.0",
    "square_nonsensitive": "MIT",
    "cold_zh": "Apache-2.0",
    "mlma": "MIT",
    "told_br": "CC-BY-SA-4.0",
    "beep_ko": "CC-BY-SA-4.0",
    "kosbi": "MIT",
    "bengali_hate": "MIT",
    "davidson_en": "MIT",
    "roman_urdu": "MIT",
}
"""Licence of each source. Texts are trained on and not shipped."""


def write_card(
    recipe: Recipe, *, sources: Sequence[Mapping[str, Any]], parity: Mapping[str, float], pieces: int
) -> str:
    """Return the card as Markdown, with an empty block for the results.

    Args:
        recipe: What the model was made by.
        sources: Name, licence and rows of each source.
        parity: What `export.measure_parity` found.
        pieces: Size of the vocabulary.
    """
    values = {
        "name": recipe.name,
        "encoder": recipe.encoder.name,
        "encoder_licence": recipe.encoder.licence,
        "pieces": f"{pieces:,}",
        "epochs": f"{recipe.train.epochs:g}",
        "rounded": f"{1 - recipe.train.quantise_from:.0%}",
        "texts": f"{parity['texts']:.0f}",
        "median": f"{parity['median']:.4f}",
        "p99": f"{parity['p99']:.4f}",
        "largest": f"{parity['max']:.3f}",
        "flipped": f"{parity['flipped']:.2%}",
        "rows": "\n".join(f"| {each['name']} | {each['rows']} | {each['licence']} |" for each in sources),
        "test": f"{recipe.folds.test:.0%}",
        "dev": f"{recipe.folds.dev:.0%}",
        "kept": ", ".join(recipe.folds.languages) or "none",
        "target_fpr": f"{recipe.calibrate.target_fpr:.0%}",
        "max_tokens": str(recipe.export.max_tokens),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)
