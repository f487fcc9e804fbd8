"""Picture files for tests, made by Pillow, and readers of them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from sluice.gateway.dialects.base import Callee
from sluice.gateway.inputs.images.reader import ImageReader, image_readers
from sluice.inference.config.model_config import ModelConfig
from sluice.inference.types import Array, Datatype, Signature, TensorSpec

Axes = tuple[int | None, ...]


def noise(height: int, width: int, channels: int = 3) -> Array:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def written(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def png(height: int = 8, width: int = 8, channels: int = 3) -> bytes:
    return written(Image.fromarray(noise(height, width, channels)))


def jpeg(height: int = 40, width: int = 60) -> bytes:
    return written(Image.fromarray(noise(height, width)), "JPEG", quality=90)


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims so many pixels and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def signature_of(
    axes: Axes = (None, 3, 8, 8), datatype: Datatype = Datatype.FP32, *, batched: bool = True
) -> Signature:
    return Signature((TensorSpec("x", datatype, axes),), (TensorSpec("y", datatype, axes),), batched)


def config_of(**image: Any) -> ModelConfig:
    return ModelConfig.model_validate({"input": {"x": {"image": image}}})


def reader(signature: Signature | None = None, **image: Any) -> ImageReader:
    return image_readers(config_of(**image), signature or signature_of())["x"]


def callee(**image: Any) -> Callee:
    config = config_of(**image)
    return Callee("m", 1, signature_of(), config, images=image_readers(config, signature_of()))
