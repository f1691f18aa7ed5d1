"""The base of every section of a recipe: closed, strict, and helpful about a mistyped name."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, Union

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from espalier.errors import nearest


class Part(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            unknown = [key for key in value if key not in cls.model_fields]
            if unknown:
                hint = nearest(str(unknown[0]), cls.model_fields)
                raise PydanticCustomError(
                    "unknown_key", "unknown key; {hint}", {"hint": hint, "key": unknown[0]}
                )
        elif not isinstance(value, cls):
            raise PydanticCustomError(
                "not_a_mapping", "give a mapping of {keys}", {"keys": ", ".join(cls.model_fields)}
            )
        return value


class Named(Part):
    """A section that stands for an object: its settings are the object's own fields."""

    target: ClassVar[type[Any]]
    """The dataclass it stands for."""

    def build(self, **replaced: Any) -> Any:
        """The object; ``replaced`` fields in place of the recipe's."""
        values = {}
        for name in type(self).model_fields:
            if name != "method":
                value = replaced.get(name, getattr(self, name))
                values[name] = value.build() if isinstance(value, Named) else value
        return self.target(**values)

    @classmethod
    def standing_for(cls, instance: Any) -> Self:
        """The section that builds an object equal to ``instance``."""
        raise NotImplementedError(instance)  # pragma: no cover - each generated class has its own


class _Names:
    """Adds to the JSON schema that the name alone will do, and a mapping of the name to its settings."""

    def __init__(self, members: Mapping[str, type[Named]]) -> None:
        self.members = members

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        whole = handler(core_schema)
        settings = dict(whole.get("discriminator", {}).get("mapping", {}))
        short = {name: {"$ref": reference} for name, reference in settings.items()}
        keyed = {"type": "object", "properties": short, "minProperties": 1, "maxProperties": 1,
                 "additionalProperties": False}  # fmt: skip
        whole.pop("discriminator", None)  # OpenAPI's word, which JSON Schema does not know
        return {"anyOf": [{"type": "string", "enum": list(self.members)}, whole, keyed]}


class Choice:
    """Marks a setting that is one of several by name: ``Annotated[Named, Choice(word, members)]``.

    It may be written ``filters``, ``{method: filters}`` or ``{filters: {}}``, settings beside the name in
    the second form and below it in the third.

    Args:
        word: What it is called in a message, such as ``method`` or ``set``.
        members: The sections by name.
    """

    def __init__(self, word: str, members: Mapping[str, type[Named]]) -> None:
        self.word, self.members = word, members

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        classes = tuple(self.members.values())
        union: Any = Annotated[Union[classes], Field(discriminator="method")]  # noqa: UP007
        return handler.generate_schema(
            Annotated[union, BeforeValidator(self._normalised), _Names(self.members)]
        )

    def _normalised(self, value: Any) -> Any:
        members, word = self.members, self.word
        if isinstance(value, Named):
            return value
        if isinstance(value, str):
            value = {"method": value}
        if isinstance(value, Mapping) and "method" not in value and len(value) == 1:
            ((name, settings),) = value.items()
            if name in members or isinstance(settings, Mapping):
                value = {"method": name, **(settings or {})}
        if not isinstance(value, Mapping) or "method" not in value:
            raise PydanticCustomError(
                "no_name", "needs a {word}; {names}", {"word": word, "names": nearest("", members)}
            )
        name = value["method"]
        if name not in members:
            hint = nearest(str(name), members)
            raise PydanticCustomError(
                "unknown_name",
                "no {word} {name}; {hint}",
                {"word": word, "name": repr(name), "hint": hint},
            )
        return value
