"""What may be wrong where a policy and its environment disagree about images."""

from pytest_drlcompress.environments.spec import EnvSpec


def image_advice(env: EnvSpec, wanted: tuple[int, ...]) -> str:
    """What may be wrong where ``env`` does not give images of the shape ``wanted``."""
    given = env.observation_shape
    if env.atari is not None and wanted[1:] == given[1:]:
        return f": write stack={wanted[0]}"
    if len(given) == 3 and sorted(wanted) == sorted(given):
        return " (images must come as channels, height, width)"
    if env.atari is None and env.id.startswith("ALE/"):
        return ": write preprocessing=gymnasium, or preprocessing=sb3 where SB3 trained it"
    return ""
