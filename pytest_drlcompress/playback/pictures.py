"""Frames of two episodes as one filmstrip and one short clip, in WebP. Needs Pillow."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

FRAMES = 24
"""Of a clip."""

SHOWN = 6
"""Frames of a filmstrip."""

PARTS = 2
"""Images that a filmstrip is made of."""

_CLIP, _STRIP = (200, 150), (132, 99)
_MILLISECONDS = 200
"""A frame: a third of the speed, for what takes less than two seconds."""

_QUALITY = 35
_INK, _GROUND = (245, 245, 245), (24, 26, 31)


@dataclass(frozen=True)
class Frame:
    """``pixels`` ``(height, width, 3)`` at ``step``; ``over`` where the episode has ended there."""

    pixels: NDArray[np.uint8]
    step: int
    over: bool


def frame_steps(first: int, last: int, count: int = FRAMES) -> list[int]:
    """``count`` steps evenly from ``first`` to the last before ``last``."""
    return sorted({round(step) for step in np.linspace(first, max(first, last - 1), count)})


def filmstrip(rows: Sequence[tuple[str, Sequence[Frame]]]) -> tuple[bytes, ...]:
    """``SHOWN`` frames of each of ``rows`` (label, frames), one row below the other.

    In ``PARTS`` images from left to right, which a narrow page puts below each other.
    """
    from PIL import Image

    (width, height), columns = _STRIP, SHOWN // PARTS
    chosen = np.linspace(0, len(rows[0][1]) - 1, SHOWN).round().astype(int)
    parts = []
    for part in np.split(chosen, PARTS):
        sheet = Image.new("RGB", (width * columns, height * len(rows)), _GROUND)
        for y, (label, frames) in enumerate(rows):
            for x, index in enumerate(part):
                panel = _panel(frames[index], _STRIP, "" if x else label)
                sheet.paste(panel, (x * width, y * height))
        parts.append(_webp(sheet))
    return tuple(parts)


def clip(rows: Sequence[tuple[str, Sequence[Frame]]]) -> bytes:
    """The frames of all ``rows`` side by side, moving, again and again."""
    from PIL import Image

    width, height = _CLIP
    images = []
    for together in zip(*(frames for _, frames in rows), strict=True):
        image = Image.new("RGB", (width * len(rows), height), _GROUND)
        for x, ((label, _), frame) in enumerate(zip(rows, together, strict=True)):
            image.paste(_panel(frame, _CLIP, label), (x * width, 0))
        images.append(image)
    return _webp(images[0], save_all=True, append_images=images[1:], duration=_MILLISECONDS, loop=0)


def _panel(frame: Frame, size: tuple[int, int], label: str) -> "Image":
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(frame.pixels).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    if frame.over:  # what is left of it: where it ended
        image = Image.blend(image, Image.new("RGB", size, _GROUND), 0.35)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    text = f"{label} ended at {frame.step}" if frame.over else f"{label} {frame.step}"
    box = draw.textbbox((4, 3), text.strip(), font=font)
    draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill=_GROUND)
    draw.text((4, 3), text.strip(), fill=_INK, font=font)
    return image


def _webp(image: "Image", **how: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format="WEBP", quality=_QUALITY, method=4, **how)
    return target.getvalue()
