"""Decodes pictures with Pillow. Only this file imports it; the extra `sluice-gateway[images]` installs it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sluice.gateway.inputs.images.files import check_parts, check_pixels, check_scans
from sluice.inference.config.model_config import ImageConfig
from sluice.inference.errors import InvalidRequest, RequestTooLarge, StartError

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Decoder = Callable[[bytes | bytearray | memoryview], Pixels]
"""From a file's content to pixels, `uint8[height, width, channels]`. Raises `InvalidRequest` and `RequestTooLarge`."""

FORMATS = ("JPEG", "PNG")
LONGEST_SIDE = 65_535
"""The bound of JPEG. Scaling a longer side takes much more memory than the picture itself."""

_KNOWN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def load_decoder(config: ImageConfig, height: int, width: int, channels: int) -> Decoder:
    """The function that decodes pictures and scales them to a size. Raises `StartError` if Pillow is not installed."""
    try:
        from PIL import Image, ImageOps  # late: an optional extra
    except ModuleNotFoundError as error:
        raise StartError(
            f"images are declared, but {error.name} is not installed; install the extra sluice-gateway[images]"
        ) from None
    # Pillow's bound only warns at first, and refuses at twice as much. `_check` refuses by the header alone.
    Image.MAX_IMAGE_PIXELS = None
    resample = Image.Resampling[config.resample.upper()]
    mode = "L" if channels == 1 else "RGB"

    def decode(body: bytes | bytearray | memoryview) -> Pixels:
        try:
            view = memoryview(body)
            check_parts(view)
            with Image.open(io.BytesIO(body), formats=FORMATS) as picture:
                _check(picture, config.max_pixels)
                check_scans(view, picture.width * picture.height, config.max_pixels)
                check_pixels(view)
                picture.load()
                ImageOps.exif_transpose(picture, in_place=True)  # in place: otherwise it copies every picture
                sized = _sized(_plain(picture, mode), config, (height, width), resample)
                return np.asarray(sized, np.uint8).reshape(height, width, channels)
        except (InvalidRequest, RequestTooLarge):
            raise
        except MemoryError:
            raise RequestTooLarge("there is not enough memory for the image") from None
        except Exception as error:  # Pillow has no error class of its own
            raise InvalidRequest(
                f"the image cannot be read: {_reason(error)}; expected a whole JPEG or PNG file"
            ) from None

    return decode


def _check(picture: Image.Image, max_pixels: int) -> None:
    """Raises `InvalidRequest` or `RequestTooLarge` by the header alone, before anything is decoded."""
    width, height = picture.size
    if width * height > max_pixels:
        raise RequestTooLarge(f"the image has {width} x {height} pixels; image.max_pixels allows {max_pixels}")
    if max(width, height) > LONGEST_SIDE:
        raise RequestTooLarge(f"the image has {width} x {height} pixels; a side has at most {LONGEST_SIDE}")
    if width * height == 0:
        raise InvalidRequest(f"the image has {width} x {height} pixels, which is none")
    if picture.format == "PNG" and getattr(picture, "is_animated", False):
        raise InvalidRequest("the image is animated; expected a single picture")
    if picture.mode not in _KNOWN_MODES:
        raise InvalidRequest(f"the image has pixels of the mode {picture.mode}; expected 8 bits for each channel")


def _plain(picture: Any, mode: str) -> Any:
    """The picture without palette and transparency. Transparent pixels keep the colour that they have in the file."""
    if picture.mode in {"P", "PA"} and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def _sized(picture: Any, config: ImageConfig, size: tuple[int, int], resample: Any) -> Any:
    height, width = size
    if config.fit == "stretch":
        if picture.size == (width, height):
            return picture
        _check_between(picture, width, config.max_pixels)
        return picture.resize((width, height), resample)
    if config.shorter_side is None:
        scale = max(height / picture.height, width / picture.width)
        whole = (max(int(picture.width * scale), width), max(int(picture.height * scale), height))
    else:
        # Rounded down, as in the libraries with which models are trained.
        scale = config.shorter_side / min(picture.size)
        whole = (
            max(int(picture.width * scale), config.shorter_side),
            max(int(picture.height * scale), config.shorter_side),
        )
    if whole[0] * whole[1] > config.max_pixels:
        raise InvalidRequest(
            f"the image has {picture.width} x {picture.height} pixels, and {whole[0]} x {whole[1]} once it is scaled "
            f"to be cropped; image.max_pixels allows {config.max_pixels}"
        )
    if whole != picture.size:
        _check_between(picture, whole[0], config.max_pixels)
        picture = picture.resize(whole, resample)
    left, top = round((whole[0] - width) / 2), round((whole[1] - height) / 2)
    return picture.crop((left, top, left + width, top + height))


def _check_between(picture: Any, width: int, max_pixels: int) -> None:
    """Raises `RequestTooLarge` if the picture between the two steps of scaling is too large.

    Pillow scales the width first, so that picture has the new width and the old height.
    """
    if width * picture.height > max(max_pixels, picture.width * picture.height):
        raise RequestTooLarge(
            f"the image has {picture.width} x {picture.height} pixels, and {width} x {picture.height} while it is "
            f"scaled; image.max_pixels allows {max_pixels}"
        )


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is neither JPEG nor PNG"
    return str(error)[:120] or type(error).__name__
