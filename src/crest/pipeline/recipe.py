"""Read a recipe: the TOML file that says how a model is made, checked before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crest.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What each step's outputs depend on: a step runs again when one of its sections changes, or an earlier step did.
STEPS: Mapping[str, tuple[str, ...]] = {
    "assemble": ("encoder", "folds", "texts", "mix"),
    "train": ("train",),
    "export": ("export",),
    "calibrate": ("calibrate",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """The pretrained encoder.

    Attributes:
        source: A Hugging Face folder (config.json, model.safetensors, tokenizer.json), or "random" for a tiny one.
        name: What the card calls it.
        licence: Its licence.
        pieces: How many vocabulary pieces to keep, the most frequent ones; 0 keeps all.
    """

    source: str
    name: str
    licence: str
    pieces: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSettings:
    """What is kept aside: a share of ids, in all languages, and whole languages of the translated corpus.

    Attributes:
        test: Share of ids that only the final measurement sees.
        dev: Share of ids that development may look at.
        languages: Their translated lines are never trained on.
        test_of_languages: Share of the ids translated into those languages that belong to the test fold.
    """

    test: float
    dev: float
    languages: tuple[str, ...] = ()
    test_of_languages: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How much benign running text of each language is used.

    Attributes:
        languages: Train on these only; empty for all.
        safe: Sentences a language that count as safe examples.
        language: Further sentences a language that teach the language head alone.
        calibrate: Sentences a language kept for thresholds.
        test: Sentences a language kept for the false-positive rate.
        switched: Copies of each English line with words replaced from a dictionary.
    """

    languages: tuple[str, ...] = ()
    safe: int
    language: int
    calibrate: int
    test: int
    switched: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MixSettings:
    """How much one source of labelled rows weighs.

    Attributes:
        repeat: Times that each row occurs in an epoch.
        cap: Most rows of one language, label and source; 0 for all.
        skip_categories: Beginnings of the source's categories that our policy does not call unsafe.
        unsafe_categories: If given, unsafe rows of other categories are left out.
    """

    repeat: int = 1
    cap: int = 0
    skip_categories: tuple[str, ...] = ()
    unsafe_categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How the model is fine-tuned.

    Attributes:
        epochs: Passes over the training rows; may be a fraction.
        batch_tokens: Tokens in a batch; all its texts have the same length, so nothing is padded.
        max_tokens: Longer texts are cut to one window of this length.
        learning_rate: Peak rate of the encoder's layers.
        head_learning_rate: Peak rate of the heads.
        warmup_steps: Steps of linear warm-up; linear decay follows.
        weight_decay: Of matrices.
        dropout: On the pooled vector.
        token_dropout: Share of tokens replaced by <unk>.
        label_smoothing: Of the unsafe and category targets.
        category_weight: Weight of the category loss.
        language_layer: The language head reads the mean of this layer's output; 0 for the embedded tokens.
        language_epochs: Passes over the sentences that it is fitted to in the end.
        average: Decay of the moving average of weights that is kept in the end.
        quantise_from: From this share of the steps on, the layers' inputs are rounded to 8 bits (1 = never).
        threads: Threads of torch.
        checkpoint_s: Seconds between checkpoints.
        bf16: Train in bfloat16 with float32 master weights.
        seed: Of everything random.
    """

    epochs: float
    batch_tokens: int
    max_tokens: int = 128
    learning_rate: float
    head_learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    dropout: float = 0.1
    token_dropout: float = 0.05
    label_smoothing: float = 0.02
    category_weight: float = 0.3
    language_layer: int = 0
    language_epochs: int = 12
    average: float = 0.998
    quantise_from: float = 1.0
    threads: int = 2
    checkpoint_s: float = 240.0
    bf16: bool = True
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """How the bundle reads a text.

    Attributes:
        max_tokens: Length of a window.
        overlap_tokens: Tokens that neighbouring windows share.
    """

    max_tokens: int = 128
    overlap_tokens: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateSettings:
    """What thresholds are chosen for.

    Attributes:
        target_fpr: False-positive rate on benign text that they aim at.
        min_threshold: No language's threshold is lower.
        benign_limit: Most benign sentences of a language that are scored; 0 for all.
    """

    target_fpr: float = 0.01
    min_threshold: float = 0.5
    benign_limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is made, in full."""

    name: str
    encoder: EncoderSettings
    folds: FoldSettings
    texts: TextSettings
    mix: Mapping[str, MixSettings]
    train: TrainSettings
    export: ExportSettings
    calibrate: CalibrateSettings

    def fingerprint(self, step: str, *, inputs: str = "") -> str:
        """Return a hash of all settings that a step's outputs depend on, and of its input files."""
        names = [name for each in list(STEPS)[: list(STEPS).index(step) + 1] for name in STEPS[each]]
        # The seed stands among the settings of training, but the rows are drawn with it as well.
        settings = {name: _plain(getattr(self, name)) for name in names} | {"seed": self.train.seed, "inputs": inputs}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: If the file cannot be read, or a setting is unknown, missing or of the wrong type.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    recipe: Recipe = _build(Recipe, content, where=str(path))
    return recipe


def _build(kind: Any, content: object, *, where: str) -> Any:
    """Build a settings class from a TOML table, refusing what does not fit."""
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where}: expected a table, found {content!r}")
    types = typing.get_type_hints(kind)
    unknown = sorted(set(content) - set(types))
    if unknown:
        raise RecipeError(f"{where}: unknown setting {unknown[0]!r}; choose from {', '.join(sorted(types))}")
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in content:
            values[field.name] = _convert(types[field.name], content[field.name], where=f"{where}: {field.name}")
        elif field.default is dataclasses.MISSING:
            raise RecipeError(f"{where}: {field.name!r} is missing")
    return kind(**values)


def _convert(kind: Any, value: Any, *, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where=where)
    if typing.get_origin(kind) is Mapping:
        inner = typing.get_args(kind)[1]
        return {name: _convert(inner, each, where=f"{where}.{name}") for name, each in _table(value, where).items()}
    if typing.get_origin(kind) is tuple:
        if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise RecipeError(f"{where}: expected a list of strings, found {value!r}")
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise RecipeError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: expected a table, found {value!r}")
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value
