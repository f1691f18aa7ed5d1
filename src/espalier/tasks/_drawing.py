"""Pictures with boxes drawn in them, for people."""

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw
from torch import Tensor

_COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e", "#8f2d56", "#4f772d", "#7b2cbf", "#c8553d")
_SCALE = 2  # drawn twice as large, so that what is written can be read


def drawn(
    picture: Tensor,
    true: Mapping[str, Tensor],
    seen: Mapping[str, Tensor],
    classes: Sequence[str],
    score: float,
) -> bytes:
    """A picture as PNG: what is there in thin white, what is seen in colour, with class and score in per cent.

    Args:
        picture: (3, H, W) in [0, 1].
        true: ``boxes`` (n, 4) in pixels.
        seen: ``boxes``, ``scores``, ``labels``.
        classes: Names.
        score: What is less sure is not drawn.
    """
    pixels = (picture.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels)
    image = image.resize((_SCALE * image.width, _SCALE * image.height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for box in true["boxes"].tolist():
        draw.rectangle([_SCALE * v for v in box], outline="white", width=1)
    rows = zip(*(seen[name].tolist() for name in ("boxes", "labels", "scores")), strict=True)
    for box, label, sure in rows:
        if sure < score:
            continue
        colour = _COLOURS[label % len(_COLOURS)]
        corners = [_SCALE * v for v in box]
        draw.rectangle(corners, outline=colour, width=3)
        text = f"{classes[label]} {100 * sure:.0f}"
        around = draw.textbbox((corners[0] + 3, max(0.0, corners[1] - 12)), text)
        draw.rectangle(around, fill=colour)
        draw.text(around[:2], text, fill="white")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
