"""A hook whose name is misspelt would never be called, and the method be another than its name says."""

from __future__ import annotations

from difflib import get_close_matches

from fedhpro_flwr.config import ConfigError

ALIKE = 0.8  # of difflib's ratio: `local_los` and `local_loss` are, `averaged` and no hook


def refuse_misspelt(cls: type, base: type, name: str) -> None:
    """Look at what a class adds to the hooks.

    Args:
        cls: of the method.
        base: has all hooks there are.
        name: of the method, for the sentence.

    Raises:
        ConfigError: something public that no base class has, with nearly a hook's name.
    """
    hooks = [hook for hook in dir(base) if not hook.startswith("_")]
    own = [entry for entry in vars(cls) if not entry.startswith("_") and not hasattr(cls.__base__, entry)]
    for entry in own:
        if meant := get_close_matches(entry, hooks, n=1, cutoff=ALIKE):
            raise ConfigError(
                f"method.name = {name!r}: nobody calls its {entry}; did you mean {meant[0]}? If it is its own, "
                "begin its name with _"
            )
