"""Which model is trained, and in which numbers its weights are."""

import contextlib
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from commons.settings import Count, Section, Text

from .presets import PRESETS, Preset, of_size
from .sources import parameters


def _json_object(value: str) -> str:
    with contextlib.suppress(ValueError, RecursionError):
        if not value or isinstance(json.loads(value), dict):
            return value
    raise ValueError('must be a JSON object such as {"name": true}')


class ModelSettings(Section):
    """What is trained."""

    preset: Text = Field(
        "tiny", description="tier: tiny | smol | gpu-small | gpu-vision | llama-11b"
    )
    model: Text = Field("", description="a Hub id or folder instead of the preset's model")
    precision: Literal["auto", "qlora", "lora", "full"] = Field(
        "auto", description="auto | qlora | lora | full"
    )
    foundation: Text = Field("default", description="which foundation model in data/foundation")
    start: Text = Field("init", description="init | model (no init before) | a folder of weights")
    rank: Count = Field(16, description="rank of the adapters (precision qlora | lora)")
    max_new_tokens: Count = Field(description="tokens an answer may have")
    base: Text = Field("", description="folder of the base of the adapter in start, if it moved")
    chat_template_kwargs: Annotated[Text, AfterValidator(_json_object)] = Field(
        "", description='JSON; thinking: {"enable_thinking": true}'
    )

    def identity(self) -> dict[str, Any]:
        """Where a base lies decides nothing."""
        return self.model_dump(exclude_defaults=True, exclude={"base"})

    @property
    def ours(self) -> bool:
        """Whether it is this project's own model, whose foundation and inits are in data/."""
        return not (self.model or PRESETS[self.preset].model)

    @property
    def by_size(self) -> bool:
        """Whether a model is named without a preset, so that its size decides the numbers."""
        return bool(self.model) and self.preset == "tiny"

    @property
    def size(self) -> int:
        """Its parameters, 0 where nothing on this machine says how many."""
        return parameters(self.model)

    @property
    def tier(self) -> Preset:
        """The preset's numbers, or those for the size of a model that is named without one."""
        return of_size(self.size) if self.by_size else PRESETS[self.preset]

    @property
    def resolved(self) -> tuple[str, str]:
        """(precision, why); `auto` asks the preset. `qlora` runs wherever bitsandbytes does."""
        if self.precision != "auto":
            return self.precision, f"asked for with precision={self.precision}"
        return self.tier.precision, self.tier.why
