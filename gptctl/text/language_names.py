"""The names of languages: "chinese" and "zh" are one language wherever a language is named."""

from __future__ import annotations

from functools import cache

# The code of each language that the identifier knows (ISO 639-1, else 639-2 or 639-3, and a few of Wikipedia's own),
# its English name, and other names.
_NAMES = """
af afrikaans; als alemannic; am amharic; an aragonese; ar arabic; arz egyptian arabic; as assamese; ast asturian;
av avar, avaric; az azerbaijani; azb south azerbaijani; ba bashkir; bar bavarian; bcl central bikol; be belarusian;
bg bulgarian; bh bihari; bn bengali, bangla; bo tibetan; bpy bishnupriya; br breton; bs bosnian; bxr buryat; ca catalan;
cbk chavacano; ce chechen; ceb cebuano; ckb central kurdish, sorani; co corsican; cs czech; cv chuvash; cy welsh;
da danish; de german; diq zazaki, dimli; dsb lower sorbian; dty doteli; dv divehi, dhivehi; el greek;
eml emilian romagnol; en english; eo esperanto; es spanish; et estonian; eu basque; fa persian, farsi; fi finnish;
fr french; frr north frisian; fy west frisian, frisian; ga irish; gd scottish gaelic; gl galician; gn guarani;
gom goan konkani, konkani; gu gujarati; gv manx; he hebrew; hi hindi; hif fiji hindi; hr croatian; hsb upper sorbian;
ht haitian creole; hu hungarian; hy armenian; ia interlingua; id indonesian; ie interlingue; ilo iloko;
io ido; is icelandic; it italian; ja japanese; jbo lojban; jv javanese; ka georgian; kk kazakh; km khmer; kn kannada;
ko korean; krc karachay balkar; ku kurdish; kv komi; kw cornish; ky kyrgyz, kirghiz; la latin; lb luxembourgish;
lez lezgian, lezghian; li limburgish; lmo lombard; lo lao; lrc northern luri; lt lithuanian; lv latvian; mai maithili;
mg malagasy; mhr eastern mari, meadow mari; min minangkabau; mk macedonian; ml malayalam; mn mongolian; mr marathi;
mrj western mari, hill mari; ms malay; mt maltese; mwl mirandese; my burmese, myanmar; myv erzya; mzn mazanderani;
nah nahuatl; nap neapolitan; nds low german; ne nepali; new newar, newari; nl dutch; nn nynorsk, norwegian nynorsk;
no norwegian; oc occitan; or odia, oriya; os ossetian, ossetic; pa punjabi; pam pampanga, kapampangan;
pfl palatine german; pl polish; pms piedmontese; pnb western punjabi; ps pashto; pt portuguese; qu quechua; rm romansh;
ro romanian; ru russian; rue rusyn; sa sanskrit; sah yakut, sakha; sc sardinian; scn sicilian; sco scots; sd sindhi;
sh serbo croatian; si sinhala, sinhalese; sk slovak; sl slovene, slovenian; so somali; sq albanian; sr serbian;
su sundanese; sv swedish; sw swahili; ta tamil; te telugu; tg tajik; th thai; tk turkmen; tl tagalog; tr turkish;
tt tatar; tyv tuvan; ug uyghur, uighur; uk ukrainian; ur urdu; uz uzbek; vec venetian; vep veps; vi vietnamese;
vls west flemish; vo volapuk; wa walloon; war waray; wuu wu; xal kalmyk; xmf mingrelian; yi yiddish; yo yoruba;
yue cantonese; zh chinese
"""


@cache
def names() -> dict[str, tuple[str, ...]]:
    """Return the English names of each language code, the usual one first."""
    entries = (entry.split(maxsplit=1) for entry in _NAMES.replace("\n", " ").split(";"))
    return {code: tuple(name.strip() for name in listed.split(",")) for code, listed in entries}


@cache
def _codes() -> dict[str, str]:
    return {name: code for code, listed in names().items() for name in (code, *listed)}


def code_of(language: str) -> str:
    """Return the code of a language, given by code or English name: "zh" for "chinese". Others stay as they are."""
    return _codes().get(_plain(language), language)


def list_of(language: str, lists: list[str]) -> str:
    """Return the name of a language's list, such as "chinese" for "zh". A language without a list stays as it is."""
    if language in lists:
        return language
    wanted = (_plain(language), *names().get(code_of(language), ()))
    return next((name for name in wanted if name in lists), language)


def shown(code: str) -> str:
    """Return a code with its name, as people read it: "Chinese (zh)"."""
    return f"{names()[code][0].title()} ({code})" if code in names() else code


def _plain(language: str) -> str:
    return " ".join(language.lower().replace("-", " ").replace("_", " ").split())
