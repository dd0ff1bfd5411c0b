"""Types of settings: numbers with bounds, and choices among the names of a registry."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from tyro.constructors import PrimitiveConstructorSpec

from palaver.arguments import FLOAT32, in_float32


class OneOf(PrimitiveConstructorSpec[str]):
    """Annotates a field of text whose value must be a key of a registry; flags are offered the same choices."""

    allowed: Callable[[], list[str]]
    """The choices at the time of the call."""

    def __init__(self, registry: Mapping[str, Any] | tuple[str, ...], *also: str):
        super().__init__(
            nargs=1,
            metavar="{" + ",".join([*also, *registry]) + "}",
            instance_from_str=lambda args: args[0],
            is_instance=lambda value: isinstance(value, str),
            str_from_instance=lambda value: [value],
        )
        object.__setattr__(self, "allowed", lambda: [*also, *registry])

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's hook: the text itself, then whether the registry has it at that time."""

        def check(value: str) -> str:
            if value not in self.allowed():
                raise ValueError(f"choose one of {', '.join(self.allowed())}")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


def _single(value: float) -> float:
    if not in_float32(value):
        raise ValueError(FLOAT32)
    return value


MOST = 2**31 - 1
"""Programs count with int32."""
Count = Annotated[int, Field(ge=1, le=MOST)]
"""A whole number, at least 1."""
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]
"""A whole number, at least 0."""
Positive = Annotated[float, Field(gt=0), AfterValidator(_single)]
"""A number above 0."""
PositiveDouble = Annotated[float, Field(gt=0)]
"""A number above 0 that NumPy computes with, in float64."""
NotNegative = Annotated[float, Field(ge=0), AfterValidator(_single)]
"""A number of at least 0."""
Fraction = Annotated[float, Field(ge=0, le=1), AfterValidator(_single)]
"""A number in [0, 1]."""
PositiveFraction = Annotated[float, Field(gt=0, le=1), AfterValidator(_single)]
"""A number in (0, 1]."""
FractionBelowOne = Annotated[float, Field(ge=0, lt=1), AfterValidator(_single)]
"""A number in [0, 1)."""
Widths = tuple[Count, ...]
"""Widths of layers."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""The seed of a random generator."""
