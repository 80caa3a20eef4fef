"""The options of `gptctl clean` that decide which documents are kept and how their texts change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import field_validator

from gptctl.core import plugins
from gptctl.core.config import ReadingOptions, Settings, StageConfig, Values, flag, key, with_plugin_tables
from gptctl.text.cleaning.filter_chain import FILTERS, ConfiguredFilter, load_filter
from gptctl.text.cleaning.filter_presets import PII_PRESETS, PRESETS
from gptctl.text.cleaning.html import Extractor
from gptctl.text.cleaning.web_thresholds import filters_for, published_languages
from gptctl.text.language_names import code_of
from gptctl.text.pii import Pii
from gptctl.text.words import WordSplitter, stop_word_list


class Contamination(Settings):
    """When a document counts as contaminated by evaluation data, and what happens then."""

    words: int = key(13, "Length in words of a sequence that a document shares with the evaluation data.", ge=2)
    action: Literal["drop", "mark"] = key("drop", "Drop such a document, or mark it in the column `contaminated`.")
    text_column: str | None = key(
        None,
        "Column of the evaluation data that is compared: by default text, question, prompt or another usual name; * "
        "compares all columns of texts.",
    )


class CleaningOptions(ReadingOptions):
    """How documents are read and cleaned. `filter_fields` adds one table per filter."""

    preset: str = flag(
        "basic",
        "Set of filters to apply.",
        panel="Cleaning",
        choices=lambda: PRESETS,
    )
    filters: tuple[str, ...] | None = flag(
        None,
        "Filters to apply, in this order, instead of those of the preset.",
        panel="Cleaning",
        choices=lambda: plugins.names(FILTERS),
    )
    html: Literal["auto", "always", "never"] = flag(
        "auto", "Extract the text of HTML documents; auto detects which documents are HTML.", panel="Cleaning"
    )
    extractor: Extractor = key("resiliparse", "Library that extracts the text of HTML; trafilatura is an extra.")
    html_seconds: float = key(10.0, "Longest time for one HTML page; a page that takes longer is dropped.", gt=0)
    normalize: bool = key(True, "Repair Unicode, line ends, control characters and white space.")
    words: WordSplitter = flag("regex", "How text is split into words.", panel="Cleaning")
    punkt: Literal["auto", "train"] = key(
        "auto",
        "Sentence splitter of --words nltk. auto: NLTK's data if installed, else untrained. train: on the input.",
    )
    identify_language: bool = key(True, "Add the columns language and language_score if there is no language column.")
    remove_stopwords: str | None = flag(
        None,
        "Remove this language's stop words, for classic methods. Language models need stop words.",
        metavar="LANGUAGE",
        panel="Cleaning",
    )
    pii: bool = flag(False, "Mask e-mail and IP addresses, phone and card numbers and secret keys.", panel="Cleaning")
    mask: Pii = key(Pii(), "What --pii masks, and by what.")
    decontaminate: tuple[str, ...] = flag(
        (),
        "Drop documents that share a 13-word sequence with these files.",
        metavar="PATH,...",
        panel="Cleaning",
        runtime=True,
        reads=True,
    )
    contamination: Contamination = key(Contamination(), "What --decontaminate compares, and what it does.")
    filter_compat: Literal["none", "datatrove"] = flag(
        "none", "Match datatrove exactly, including its known bugs.", panel="Cleaning"
    )

    @field_validator("preset")
    @classmethod
    def known_preset(cls, value: str) -> str:
        """Reject an unknown preset."""
        if value not in PRESETS:
            near = plugins.did_you_mean(value, list(PRESETS))
            raise ValueError(f"no preset is called '{value}'{near}; known: {', '.join(PRESETS)}")
        return value

    @field_validator("remove_stopwords")
    @classmethod
    def list_of_language(cls, value: str | None) -> str | None:
        """Return the name of the list of stop words, also for a code such as en."""
        return value if value is None else stop_word_list(value)

    @field_validator("decontaminate")
    @classmethod
    def no_pipe(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Reject a pipe, because each worker reads the evaluation data."""
        if "-" in value:
            raise ValueError("evaluation data cannot come from a pipe; name files or folders")
        return value

    @field_validator("filters")
    @classmethod
    def known_filters(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Reject an unknown filter."""
        known = plugins.names(FILTERS)
        for name in value or ():
            if name not in known:
                raise ValueError(
                    f"no filter is called '{name}'{plugins.did_you_mean(name, known)}; known: {', '.join(known)}"
                )
        return value

    @classmethod
    def preset_layer(cls, chosen: Values) -> Values:
        """Return the filters of the preset with their settings, unless --filters alone is given."""
        if chosen.get("filters") is not None and "preset" not in chosen:
            return {}
        name = str(chosen.get("preset", "basic"))
        preset = PRESETS.get(name, {})
        languages = _wanted_languages(chosen)
        if name == "web" and len(languages) == 1 and languages[0] in published_languages():
            preset = filters_for(languages[0])
        settings = {filter_name: dict(values) for filter_name, values in preset.items() if values}
        return {"filters": list(preset), "pii": name in PII_PRESETS} | settings

    def warnings(self) -> Iterator[str]:
        """Yield what the user should know of the settings before they are used."""
        languages = self.filter_settings("language").languages
        alone = languages[0] if len(languages) == 1 else ""
        if self.preset == "web" and self.filters and languages and alone not in ("en", *published_languages()):
            others = ", ".join(code for code in languages if code != "en")
            reason = "one language at a time has its own" if len(languages) > 1 else "none are published for it"
            yield f"the thresholds of --preset web are those for English, also for {others}: {reason}"

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if not self.pii:
            found["mask"] = "without --pii"
        if not self.decontaminate:
            found["contamination"] = "without --decontaminate"
        if self.words != "nltk":
            found["punkt"] = "without --words nltk"
        if (self.words != "nltk" or self.punkt != "train") and self.filter_settings("classifier").keep_fraction is None:
            found["tmp"] = "without classifier.keep_fraction, and without --words nltk and punkt=train"
        if self.html == "never":
            found |= dict.fromkeys(("extractor", "html_seconds"), "with --html never")
        used = [one.name for one in self.filter_chain()]
        tables = [name for name in plugins.names(FILTERS) if name in type(self).model_fields]
        found |= {name: f"without the filter {name}" for name in tables if name not in used}
        if self.identify_language and found.pop("language", ""):  # its settings also serve identify_language
            found["language.min_score"] = "without --language"
        return found

    @classmethod
    def for_values(cls, chosen: Values) -> type[StageConfig]:
        """Return the model with the tables of those filters that are plug-ins and that the values name."""
        filters = chosen.get("filters")
        listed = filters.split(",") if isinstance(filters, str) else filters if isinstance(filters, list) else []
        named = {*map(str, listed), *plugins.file_names(FILTERS)}
        named |= chosen.keys() - cls.model_fields.keys()
        added = set(plugins.names(FILTERS)) - set(plugins.built_in(FILTERS))
        return with_plugin_tables(cls, FILTERS, tuple(sorted(added & {str(name).strip() for name in named})))

    def filter_settings(self, name: str) -> Any:
        """Return the table of settings of one filter, an instance of the filter's Config."""
        return vars(self)[name]

    def filter_chain(self) -> tuple[ConfiguredFilter, ...]:
        """Return the filters in order. --language adds its filter at the front unless it is in the chain already."""
        names = self.filters or ()
        if self.filter_settings("language").languages and "language" not in names:
            names = ("language", *names)
        return tuple(ConfiguredFilter(name, self.filter_settings(name)) for name in names)


def _wanted_languages(chosen: Values) -> tuple[str, ...]:
    """Return the codes of --language among values that are not checked yet."""
    settings = chosen.get("language")
    wanted = settings.get("languages", ()) if isinstance(settings, Mapping) else getattr(settings, "languages", ())
    if isinstance(wanted, str):
        wanted = [code.strip() for code in wanted.split(",")]
    return tuple(dict.fromkeys(code_of(str(code)) for code in wanted)) if isinstance(wanted, list | tuple) else ()


def filter_fields() -> dict[str, Any]:
    """Return a field for each filter: its settings, as a table with the filter's name.

    `--language en` is the flag for `language.languages`.
    """
    fields: dict[str, Any] = {}
    for name in plugins.built_in(FILTERS):
        module = load_filter(name)
        default, help_line = module.Config(), (module.__doc__ or "").splitlines()[0]
        if name == "language":
            help_line = "Keep only documents in these languages, such as en,de."
            fields[name] = (
                module.Config,
                flag(default, help_line, metavar="CODES", panel="Cleaning", paths=("language.languages",)),
            )
        else:
            fields[name] = (module.Config, key(default, help_line))
    return fields
