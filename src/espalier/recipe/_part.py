"""The base of every section of a recipe: closed, strict, and helpful about a mistyped name."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from espalier.errors import RequestError, nearest


class Section(BaseModel):
    """A mapping whose keys are all known. A field may have two words for it, given as ``AliasChoices``."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def words(cls) -> dict[str, list[str]]:
        """By field name the keys it may be written under."""
        return {
            name: [str(word) for word in alias.choices]
            if isinstance(alias := field.validation_alias, AliasChoices)
            else [name]
            for name, field in cls.model_fields.items()
        }

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            words = cls.words().values()
            keys = {word for each in words for word in each}
            unknown = [key for key in value if key not in keys]
            if unknown:
                hint = nearest(str(unknown[0]), keys)
                raise PydanticCustomError(
                    "unknown_key", "unknown key; {hint}", {"hint": hint, "key": unknown[0]}
                )
            for each in words:
                if len(each) > 1 and all(word in value for word in each):
                    raise PydanticCustomError(
                        "two_words",
                        "{words} are two words for one thing; give one of them",
                        {"words": " and ".join(each)},
                    )
        elif not isinstance(value, cls):
            raise PydanticCustomError(
                "not_a_mapping", "give a mapping of {keys}", {"keys": ", ".join(cls.model_fields)}
            )
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, (first, *others) in cls.words().items():
            for word in others:
                same = dict(properties.get(first, {}))
                same.pop("default", None)
                properties[word] = {**same, "description": f"Another word for `{name}`."}
        return schema


class Named(Section):
    """A section that stands for an object: its settings are the object's own fields."""

    target: ClassVar[type[Any]]
    """The dataclass it stands for."""

    @classmethod
    def more_fields(cls, target: type[Any], types: Mapping[Any, Any]) -> dict[str, Any]:
        """Fields of such sections besides those of ``target``."""
        return {}

    def built(self, **replaced: Any) -> dict[str, Any]:
        """By field name its value, with an object for every section; ``replaced`` in place of the recipe's."""
        values = {
            name: replaced.get(name, getattr(self, name))
            for name in type(self).model_fields
            if name != "method"
        }
        return {n: v.build() if isinstance(v, Named) else v for n, v in values.items()}

    def build(self, **replaced: Any) -> Any:
        """The object; ``replaced`` fields in place of the recipe's."""
        return self.target(**self.built(**replaced))

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        """What the object itself refuses is refused here, at its place in the recipe."""
        try:
            in_epochs = isinstance(getattr(self, "cadence", None), str)
            self.build(**({"cadence": 1} if in_epochs else {}))
        except RequestError as error:
            raise PydanticCustomError("refused", "{said}", {"said": str(error)}) from error
        return self
