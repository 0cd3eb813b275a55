"""Settings that check themselves: what is wrong with one is a sentence (SftrlError)."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .errors import SftrlError, shown

MOST = 10**6  # of anything that is counted: more would fail late, or never end


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be text on one line")
    return value


def _no_trace(value: float) -> float:
    if value and not 1e-3 <= value <= 1e3:
        raise ValueError("must be 0, or from 0.001 to 1,000")
    return value


Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrAuto = Count | Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, le=MOST)]
Temperature = Annotated[float, AfterValidator(_no_trace)]
Text = Annotated[str, AfterValidator(_one_line)]


class Section(BaseModel):
    """Settings that belong together. Unknown names, other types and infinities are errors, of one
    sentence each (SftrlError)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _sentence(error) from error

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool(cls, value: Any, info: ValidationInfo) -> Any:
        """True is no 1, though Python says so."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("must be a number or text")
        return value

    def identity(self) -> dict[str, Any]:
        """What of it decides a result, as far as it is not the default of its field: so a setting
        that comes later does not change what earlier runs are."""
        return self.model_dump(exclude_defaults=True)


def _sentence(error: ValidationError) -> SftrlError:
    """The first fault that pydantic found, as a sentence of ours."""
    first = error.errors()[0]
    kind, context = first["type"], first.get("ctx", {})
    name = str(first["loc"][0]) if first["loc"] else "the experiment"
    if isinstance(cause := context.get("error"), SftrlError):
        named = not first["loc"] or name in str(cause)
        return cause if named else SftrlError(f"{name}: {cause}")
    if kind == "missing":
        return SftrlError(f"{name} has no default here; set it, e.g. {name}=1, and try again.")
    # A value that may be one thing or another has a fault for each.
    faults = [fault for fault in error.errors() if fault["loc"][:1] == first["loc"][:1]]
    what = " or ".join(_asked_for(fault) for fault in faults)
    return SftrlError(
        f"{name} is {shown(first['input'])}, but it must be {what}; change {name} and try again."
    )


def _asked_for(fault: Any) -> str:
    words = (words for start, words in _WORDS.items() if fault["type"].startswith(start))
    pydantic = fault["msg"].removeprefix("Value error, must be ").removeprefix("Input should be ")
    return next(words, "{0}").format(pydantic, **fault.get("ctx", {}))


# What pydantic asks for, by the beginning of the type of its error, where its own words are poor.
_WORDS = {
    "int_": "a whole number",
    "float_": "a number",
    "string_": "text",
    "greater_than_equal": "at least {ge:,g}",
    "less_than_equal": "at most {le:,.10g}",
    "less_than": "less than {lt:,.10g}",
}
