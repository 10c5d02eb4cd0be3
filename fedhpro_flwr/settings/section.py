"""What a section of the settings is, and the bounds that its keys share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LARGEST = 3e38  # of torch's float32

# These are also bounds of what a model's file says of itself (exported/description.py).
Count = Annotated[int, Field(ge=1, le=2**31)]
CountOrZero = Annotated[int, Field(ge=0, le=2**31)]  # 0 stands for "all" or "off", as the key says
Threads = Annotated[int, Field(ge=1, le=2**10)]
Width = Annotated[int, Field(ge=0, le=2**20)]  # 0 stands for the model's own
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what every generator takes, NumPy's and scikit-learn's too
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
# A similarity is at most 1; divided by less than this, the gradient of its exponential exceeds float32.
Temperature = Annotated[float, Field(ge=1e-4, le=LARGEST, allow_inf_nan=False)]
MOST_PER_CLASS = 10_000  # prototypes; more is a typing error that would fill the memory
PerClass = Annotated[int, Field(ge=1, le=MOST_PER_CLASS)]
ClientCount = Annotated[int, Field(ge=1, le=100_000)]  # likewise
Pixels = Annotated[int, Field(ge=0, le=4096)]  # of a picture's side; likewise
# A text that may look like a number, which TOML and the command line then read as one.
TextOrCount = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class Section(BaseModel):
    """Frozen, strict (no text where a number belongs), and closed: an unknown key is an error.

    Keys have hyphens in settings and underscores in Python: `LocalOptions(batch_size=8)`.

    Raises:
        ValueError: an unknown key, or a value out of its bounds; pydantic's `ValidationError` names the key.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )
