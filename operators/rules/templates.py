"""Texts: Liquid, cut down to what an author needs and a reviewer can follow.

Tags if, elsif, else, unless and case; filters default, upcase, downcase, escape, money, date and round. A
variable that is null and has no `default` makes its part unsendable; nothing here reads a clock.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import liquid
import msgspec
from liquid.exceptions import FilterArgumentError, LiquidError
from liquid.undefined import StrictDefaultUndefined

from operators.rules.campaign_file import Id
from operators.rules.channels import PARTS
from operators.rules.faults import Fault, meant, one_of
from operators.rules.leaves import STATIC, Leaf
from operators.rules.shape import WRONG, Reads, Unreadable, Wrong, fields, is_wrong
from operators.rules.shape import Part as FilePart
from operators.rules.strict_yaml import Document, Path

NAME = "person.first_name"
"""Resolved in the delivery flow only, from the sealed contact point."""
TAGS = ("if", "unless", "case")
FILTERS = ("default", "upcase", "downcase", "escape", "money", "date", "round")
LONGEST_OUTPUT = 8 * 1024
_IMPERSONAL = ("zone.", "site.", "context.", "params.")
_GROUPS = ("person", "score", "facts", "zone", "site", "visit", "identity", "context", "e", "params")
_LOCALE = re.compile(r"[a-z]{2,3}(?:-[A-Z][A-Za-z]{1,3})?")
_TOKEN_TAG = re.compile(r"unexpected tag '([^']*)'")
_RAW = re.compile(r"{%-?\s*raw\b")
_WITH_DEFAULT = re.compile(r"[\w.\[\]\"']+\s*\|\s*default\s*:")


class _Strict(liquid.Environment):
    """Liquid without loops, includes, assignments and files."""

    output_stream_limit = LONGEST_OUTPUT


def _money(value: Any, currency: str = "") -> str:
    try:
        amount = f"{float(value):.2f}"
    except (TypeError, ValueError):
        raise FilterArgumentError("money takes a number", token=None) from None
    return f"{amount} {currency}".rstrip()


def _date(value: Any, form: str = "%Y-%m-%d") -> str:
    # The library's own filter takes "now"; a text must not hang on when it was rendered.
    try:
        return datetime.fromisoformat(str(value)).strftime(str(form))
    except ValueError:
        raise FilterArgumentError("date takes a date like 2026-12-05", token=None) from None


def _environment() -> liquid.Environment:
    made = _Strict(undefined=StrictDefaultUndefined, autoescape=False)
    made.tags = {name: made.tags[name] for name in ("content", "output", "illegal", *TAGS)}
    made.filters = {name: made.filters[name] for name in FILTERS if name in made.filters} | {
        "money": _money,
        "date": _date,
    }
    return made


_LIQUID = _environment()


def personal(variable: str) -> bool:
    """Whether a variable says something about a person: such a text reaches her alone."""
    return not variable.startswith(_IMPERSONAL)


def as_param(value: Any) -> str:
    """A variable's value as it travels in a command.

    >>> as_param(412.5), as_param(True), as_param(["a", "b"])
    ('412.5', 'true', 'a, b')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


class Part:
    """One text: of a channel, in a locale.

    Attributes:
        channel: `push`, `screen`, `screen_personal` ...
        locale: the locale it is written in.
        variables: dotted paths it reads, sorted.
        required: those of them that have no `default`: null makes the part unsendable.
        offsets: where each variable first stands: whether in the subject, and at which character.
        personal: whether it says something about a person.
    """

    def __init__(self, channel: str, locale: str, text: str, subject: str | None = None) -> None:
        self.channel = channel
        self.locale = locale
        self.text = text
        self.subject_text = subject
        self._text = _LIQUID.from_string(text)
        self._subject = None if subject is None else _LIQUID.from_string(subject)
        self.offsets: dict[str, tuple[bool, int]] = {}
        defaulted: dict[str, bool] = {}
        for source, template in ((text, self._text), (subject or "", self._subject)):
            if template is None:
                continue
            for group in template.analyze().variables.values():
                for variable in group:
                    path = str(variable)
                    self.offsets.setdefault(path, (template is self._subject, variable.span.index))
                    has = _has_default(source, variable.span.index)
                    defaulted[path] = defaulted.get(path, True) and has
        self.variables = tuple(sorted(defaulted))
        self.required = tuple(sorted(path for path, has in defaulted.items() if not has))
        self.personal = any(map(personal, self.variables))

    def sendable(self, values: Mapping[str, Any]) -> bool:
        """Whether every variable without a `default` has a value; the name is delivery's to resolve."""
        return all(path == NAME or values.get(path) is not None for path in self.required)

    def params(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The variables that travel in a command: all but the name, as strings, those that have a value."""
        return {
            path: as_param(values[path]) for path in self.variables if path != NAME and values.get(path) is not None
        }

    def render(self, values: Mapping[str, Any]) -> str | None:
        """The text, or None when a variable it needs is null or the text is too long.

        Args:
            values: variables by dotted path; strings are as good as numbers.
        """
        return _rendered(self._text, values)

    def subject(self, values: Mapping[str, Any]) -> str | None:
        """The subject line of an e-mail, on one line whatever the values hold; None where there is none."""
        said = None if self._subject is None else _rendered(self._subject, values)
        return None if said is None else " ".join(said.split())


def _has_default(source: str, index: int) -> bool:
    return source[:index].rstrip().endswith(("{{", "{{-")) and _WITH_DEFAULT.match(source, index) is not None


def _rendered(template: Any, values: Mapping[str, Any]) -> str | None:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        if value is None:
            continue
        *above, last = path.split(".")
        at = tree
        for step in above:
            at = at.setdefault(step, {})
        at[last] = _typed(path, value)
    try:
        return str(template.render(**tree))
    except LiquidError:
        return None


def _typed(path: str, value: Any) -> Any:
    """Numbers come back from a command as text; conditions and filters want them as numbers."""
    leaf = STATIC.get(path)
    numeric = leaf.type in {"int", "double"} if leaf is not None else path.startswith(("facts.", "score."))
    if not isinstance(value, str) or not numeric:
        return value
    try:
        return int(value) if value.lstrip("-").isdecimal() else float(value)
    except ValueError:
        return value


class Template(msgspec.Struct, frozen=True):
    """A template file. `content` are its bytes: the campaigns that name it are versioned by them."""

    id: str
    fallback_locale: str
    parts: dict[str, dict[str, Part]]
    content: bytes
    file: str

    def part(self, channel: str, locale: str) -> Part | None:
        """The part of a channel (any case) in a locale, else in its language, else None."""
        locales = self.parts.get(channel.lower(), {})
        return locales.get(locale) or locales.get(locale.split("-", 1)[0])

    def choose(self, channel: str, language: str) -> Part | None:
        """The part to use for a consent's language: its own, else the fallback locale's."""
        return (self.part(channel, language) if language else None) or self.part(channel, self.fallback_locale)


def _locale(written: Any) -> str:
    if not isinstance(written, str) or not _LOCALE.fullmatch(written):
        raise Unreadable(f"a locale must be written like en or es-ES; got {written}", "write en")
    return written


class TemplateFile(FilePart, frozen=True, kw_only=True):
    """What may stand in a template file."""

    template: Id
    fallback_locale: Annotated[str, Reads(_locale)]
    parts: Annotated[Any, Reads(lambda written: written)]


def template_of(document: Document, content: bytes, name: str, faults: list[Fault]) -> Template | None:
    """Read a template file; None when anything in it is wrong, with the faults added."""
    before = len(faults)
    values = fields(document, (), TemplateFile, faults)
    if not is_wrong(values["template"]) and values["template"] != name:
        faults.append(
            document.fault(("template",), "E105", f"the template must be called as its file, {name}", f"write {name}")
        )
    parts = WRONG if is_wrong(values["parts"]) else _parts(document, values["fallback_locale"], faults)
    if len(faults) > before or isinstance(parts, Wrong):
        return None
    return Template(values["template"], values["fallback_locale"], parts, content, document.file)


def _parts(document: Document, fallback: Any, faults: list[Fault]) -> dict[str, dict[str, Part]]:
    written = document.value["parts"]
    found: dict[str, dict[str, Part]] = {}
    if not isinstance(written, dict) or not written:
        faults.append(
            document.fault(
                ("parts",), "E102", "parts must be a mapping of channels to locales to texts", "write push: {en: '...'}"
            )
        )
        return found
    for channel, locales in written.items():
        path: Path = ("parts", channel)
        if channel not in PARTS:
            faults.append(document.fault(path, "E101", f"no part is called {channel}", meant(channel, PARTS), key=True))
            continue
        if not isinstance(locales, dict):
            faults.append(
                document.fault(
                    path, "E102", f"parts.{channel} must be a mapping of locales to texts", "write {en: '...'}"
                )
            )
            continue
        if not is_wrong(fallback) and fallback not in locales:
            what = f"part {channel} has no text in the fallback locale {fallback}"
            faults.append(document.fault(path, "E401", what, f"add {fallback} to it", key=True))
        texts = (_text_part(document, channel, locale, faults) for locale in locales)
        found[channel] = {part.locale: part for part in texts if part is not None}
    return found


def _text_part(document: Document, channel: str, locale: str, faults: list[Fault]) -> Part | None:
    path: Path = ("parts", channel, locale)
    written = document.value["parts"][channel][locale]
    try:
        _locale(locale)
    except Unreadable as error:
        faults.append(document.fault(path, "E102", error.what, error.fix, key=True))
        return None
    subject, text, text_path = None, written, path
    if isinstance(written, dict):
        subject, text, text_path = written.get("subject"), written.get("text"), (*path, "text")
        if (
            channel != "email"
            or set(written) != {"subject", "text"}
            or not isinstance(subject, str)
            or "\n" in subject.strip()
        ):
            faults.append(
                document.fault(
                    path,
                    "E102",
                    f"parts.{channel}.{locale} must be a text, or on email {{subject, text}} with a subject of one line",
                    "write {subject: '...', text: '...'}",
                )
            )
            return None
    if not isinstance(text, str):
        faults.append(document.fault(text_path, "E102", f"parts.{channel}.{locale} must be a text", "put it in quotes"))
        return None
    pieces = [(text_path, text)] if subject is None else [((*path, "subject"), subject), (text_path, text)]
    wrong = [fault for at, piece in pieces for fault in _checked(document, at, piece)]
    if wrong:
        faults += wrong
        return None
    part = Part(channel, locale, text, subject)
    faults += _variables(document, part)
    return part


def _checked(document: Document, path: Path, text: str) -> list[Fault]:
    def fault(offset: int, width: int, what: str, fix: str) -> Fault:
        line, column = document.place(path, offset)
        return Fault(document.file, line, column, "E401", what, document.source(line), fix, width)

    if raw := _RAW.search(text):
        return [fault(raw.start(), 2, "the tag raw must not stand in a template", f"use {one_of(TAGS)}")]
    try:
        analysis = _LIQUID.from_string(text).analyze()
    except LiquidError as error:
        token = getattr(error, "token", None)
        at = min(max(getattr(token, "start_index", 0), 0), max(len(text) - 1, 0))
        said = str(error.args[0] if error.args else error).split("\n")[0]
        if tag := _TOKEN_TAG.search(said):
            return [
                fault(at, len(tag[1]), f"the tag {tag[1]} must not stand in a template here", f"use {one_of(TAGS)}")
            ]
        return [fault(at, 1, f"not a template: {said}", "close what was opened")]
    except Exception:
        return [fault(0, 1, "not a template: it cannot be read", "write it plainer")]
    return [
        fault(span.index, len(name), f"the filter {name} must not stand in a template", meant(name, FILTERS))
        for name, spans in analysis.filters.items()
        if name not in FILTERS
        for span in spans
    ]


def place(document: Document, part: Part, variable: str) -> tuple[int, int]:
    """Line and column of a variable of a part."""
    in_subject, offset = part.offsets[variable]
    key = () if part.subject_text is None else ("subject" if in_subject else "text",)
    return document.place(("parts", part.channel, part.locale, *key), offset)


def _variables(document: Document, part: Part) -> list[Fault]:
    """What holds of a template whoever uses it: variables of known groups, none personal on a screen."""
    found = []
    for variable in part.variables:
        line, column = place(document, part, variable)
        group, _, rest = variable.partition(".")
        problem: tuple[str, str, str] | None = None
        if (
            group not in _GROUPS
            or not rest
            or not re.fullmatch(r"[\w.]+", rest)
            or (
                group not in {"facts", "e", "context", "params"}
                and variable not in STATIC
                and variable != NAME
                and not variable.startswith("person.traits.")
            )
        ):
            problem = ("E401", f"unknown variable {variable}", meant(variable, [NAME, *STATIC]))
        elif part.channel in {"screen", "label"} and personal(variable):
            where = "a shelf label" if part.channel == "label" else "the screen part"
            problem = (
                "E302",
                f"{variable} is personal and must not stand on {where}",
                "move it to a part screen_personal" if part.channel == "screen" else "drop it",
            )
        if problem:
            code, what, fix = problem
            found.append(Fault(document.file, line, column, code, what, document.source(line), fix, len(variable)))
    return found


def warnings(document: Document, template: Template, leaves: Mapping[str, Leaf]) -> list[Fault]:
    """A warning for each variable that may be null and has no `default`."""
    found = []
    for channel, locales in template.parts.items():
        for part in locales.values():
            for variable in part.required:
                leaf = leaves.get(variable)
                if variable == NAME or (leaf is not None and leaf.nullable):
                    line, column = place(document, part, variable)
                    what = f"{variable} may be null, which makes part {channel} of {template.id} unsendable"
                    found.append(
                        Fault(
                            document.file,
                            line,
                            column,
                            "W401",
                            what,
                            document.source(line),
                            f'write {{{{ {variable} | default: "..." }}}}',
                            len(variable),
                        )
                    )
    return found
