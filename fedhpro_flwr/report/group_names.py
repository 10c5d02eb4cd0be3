"""What the groups of a report are called: by what sets each apart from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fedhpro_flwr.config import Scalar
from fedhpro_flwr.settings.presets import PRESETS

METHOD, PRESET, EXPERIMENT = "method.name", "preset", "experiment"
LONG_NAME, LONGEST_NAME = 80, 240  # characters; pictures repeat the names, and with longer ones hold little else

Read = Mapping[str, Scalar | None]  # a run's settings; None for one that it does not read


def group_names(settings: Sequence[Read]) -> tuple[list[str], str]:
    """A name for each group: its method, then `key = value` of what it reads and other groups read differently.

    A setting that follows from a preset or an experiment, whose name is already there, is not repeated. If that makes
    a name longer than LONG_NAME, as in an ablation, what more than half of the groups have is left out of all names.

    Args:
        settings: of each group.

    Returns:
        The names, and what was left out of them.
    """
    differing = [key for key in settings[0] if len(set(_values(key, settings))) > 1]
    stated = [key for key in (EXPERIMENT, PRESET) if key in differing]
    stated += [key for key in differing if key not in (METHOD, *stated) and not _follows(key, settings, stated)]
    names = [_name(group, stated, {}) for group in settings]
    if max(map(len, names)) <= LONG_NAME:
        return names, ""
    usual = {key: value for key in stated if (value := _usual(_values(key, settings))) is not None}
    return [_name(group, stated, usual) for group in settings], _listed(usual)


def _name(group: Read, stated: Iterable[str], usual: Read) -> str:
    said = {key: value for key in stated if (value := group[key]) is not None and value != usual.get(key)}
    return ", ".join(filter(None, [str(group[METHOD]), _listed(said)]))


def _listed(settings: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{key} = {_text(value)}" for key, value in settings.items())


def _usual(values: Sequence[Scalar]) -> Scalar | None:
    """What more than half of them are; None if nothing is."""
    (value, times), *_ = Counter(values).most_common(1)
    return value if times > len(values) / 2 else None


def _values(key: str, settings: Iterable[Read]) -> list[Scalar]:
    """What the groups that read the setting have, one value for each of them."""
    return [value for group in settings if (value := group[key]) is not None]


def _follows(key: str, settings: Sequence[Read], stated: Sequence[str]) -> bool:
    """Whether the value of `key` follows from the experiment or preset, if the name says these."""
    readers = [group for group in settings if group[key] is not None]
    if PRESET in stated and all(PRESETS.get(str(group[PRESET]), {}).get(key) == group[key] for group in readers):
        return True
    if EXPERIMENT not in stated:
        return False
    by_experiment = (
        {group[key] for group in readers if group[EXPERIMENT] == each} for each in {g[EXPERIMENT] for g in readers}
    )
    return all(len(values) == 1 for values in by_experiment)


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'
