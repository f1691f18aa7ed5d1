"""A setting that is one of several by name: one of ours, or ``package.module:Name``."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    WrapValidator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from espalier._ground.registry import REFERENCE, Members, is_reference, resolve
from espalier.errors import RequestError, UnknownNameError, nearest, shown
from espalier.recipe._part import Named

Derive = Callable[[str, type[Any]], type[Named]]


class Sections(Mapping[str, type[Named]]):
    """The sections of the members of some families, by name; and, when asked, those of other classes.

    Args:
        word: What one is called in a message, such as ``method`` or ``set``.
        bases: The families.
        derive: Makes the section of a name and a class.
        without: Members that a recipe does not name.
    """

    def __init__(
        self, word: str, *bases: type[Any], derive: Derive, without: tuple[type[Any], ...] = ()
    ) -> None:
        self.word, self._bases, self._derive = word, bases, derive
        self._members: dict[str, type[Named]] = {}
        for base in bases:
            for name, cls in Members(base).items():
                if cls in without:
                    continue
                if name in self._members:
                    other = self._members[name].target
                    raise RequestError(
                        f"{other.__name__} and {cls.__name__} are both called {name!r}; "
                        "give one of them another name"
                    )
                self._members[name] = derive(name, cls)
        self._others: dict[str, type[Named]] = {}

    def __getitem__(self, name: str) -> type[Named]:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def of(self, name: str, words: tuple[str, ...] = ()) -> type[Named]:
        """The section of a member's name, or of ``package.module:Name``, whose module is imported.

        Args:
            name: Of a member, or of a class.
            words: What else might have been meant, for the message.

        Raises:
            UnknownNameError: There is nothing of that name.
            RequestError: It is not of the family, or its module fails while it is imported.
        """
        if name in self._members:
            return self._members[name]
        if not is_reference(name):
            raise UnknownNameError(f"no {self.word} {name!r}; {nearest(name, {*words, *self})}")
        target = resolve(name, *self._bases)
        if name not in self._others or self._others[name].target is not target:
            self._others[name] = self._derive(name, target)
        return self._others[name]


class Choice:
    """Marks a setting that is one of several by name: ``Annotated[Named, Choice(sections)]``.

    It may be written ``filters``, ``{method: filters}`` or ``{filters: {}}``, settings beside the name in
    the second form and below it in the third.

    Args:
        sections: Those that may be named.
        words: Names besides that have no settings and stay as they are.
    """

    def __init__(self, sections: Sections, words: tuple[str, ...] = ()) -> None:
        self.sections, self.words = sections, words

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        classes = tuple(self.sections.values())
        union: Any = Annotated[Union[classes], Field(discriminator="method")]  # noqa: UP007
        return handler.generate_schema(
            Annotated[
                union,
                WrapValidator(self._validated),
                PlainSerializer(_dumped),
                _Names(self.sections, self.words),
            ]
        )

    def _validated(self, value: Any, inner: Callable[[Any], Any]) -> Any:
        if isinstance(value, Named):
            return inner(value) if type(value) in self.sections.values() else value
        if isinstance(value, str) and value in self.words:
            return value
        value = self._spelt_out(value)
        try:
            section = self.sections.of(str(value["method"]), self.words)
        except RequestError as error:
            raise PydanticCustomError("unknown_name", "{said}", {"said": str(error)}) from error
        if value["method"] in self.sections:
            return inner(value)
        try:
            return section.model_validate(value)
        except ValidationError as error:
            raise _below(str(value["method"]), error) from error

    def _spelt_out(self, value: Any) -> Mapping[str, Any]:
        """The mapping with a ``method`` that a name, or one name with its settings, stands for."""
        if isinstance(value, str):
            value = {"method": value}
        if isinstance(value, Mapping) and "method" not in value and len(value) == 1:
            ((name, settings),) = value.items()
            if name in self.sections and not isinstance(settings, Mapping | None):
                raise PydanticCustomError(
                    "not_a_mapping",
                    "the settings of {name} are a mapping, not {got}",
                    {"name": str(name), "got": shown(settings)},
                )
            if name in self.sections or isinstance(settings, Mapping):
                value = {"method": name, **(settings or {})}
        if not isinstance(value, Mapping) or "method" not in value:
            raise PydanticCustomError(
                "no_name",
                "needs a {word}; {names}",
                {
                    "word": self.sections.word,
                    "names": nearest("", [*self.words, *self.sections]),
                },
            )
        return value


def _dumped(section: Any, info: SerializationInfo) -> Any:
    """By the section's own class: one of a user's is none of the classes known beforehand."""
    return section if isinstance(section, str) else section.model_dump(mode=info.mode)


def _below(name: str, error: ValidationError) -> ValidationError:
    """The same findings, placed below a name: so does a union of known sections place its own."""
    found: list[InitErrorDetails] = [
        {
            "type": PydanticCustomError(detail["type"], detail["msg"], detail.get("ctx")),
            "loc": (name, *detail["loc"]),
            "input": detail["input"],
        }
        for detail in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, found)


class _Names:
    """Adds to the JSON schema that the name alone will do, and a mapping of the name to its settings.

    Of ``package.module:Name`` the schema does not know the settings, so it leaves them open.
    """

    def __init__(self, sections: Sections, words: tuple[str, ...]) -> None:
        self.sections, self.words = sections, words

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        whole = handler(core_schema)
        settings = dict(whole.get("discriminator", {}).get("mapping", {}))
        short = {name: {"$ref": reference} for name, reference in settings.items()}
        whole.pop("discriminator", None)  # OpenAPI's word, which JSON Schema does not know
        other = {"type": "string", "pattern": f"^{REFERENCE}$"}
        keyed = {"type": "object", "properties": short, "minProperties": 1, "maxProperties": 1,
                 "patternProperties": {other["pattern"]: {"type": ["object", "null"]}},
                 "additionalProperties": False}  # fmt: skip
        beside = {"type": "object", "properties": {"method": other}, "required": ["method"]}
        return {
            "anyOf": [
                {"type": "string", "enum": [*self.words, *self.sections]},
                other,
                whole,
                keyed,
                beside,
            ]
        }
