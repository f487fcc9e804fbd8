from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sluice.inference.errors import InvalidRequest, RepositoryError, RequestTooLarge
from sluice.inference.types import Array, Datatype
from tests.gateway.inputs.images.pictures import Axes, bomb, jpeg, noise, png, reader, signature_of, written


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def test_the_numbers_are_those_of_pillow_and_numpy() -> None:
    """As torchvision's ToTensor and Normalize write it down."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = reader(mean=mean, std=std).read(jpeg())
    pixels = np.asarray(opened(jpeg()).resize((8, 8), Image.Resampling.BILINEAR))
    expected = (pixels / np.float32(255) - np.array(mean, np.float32)) / np.array(std, np.float32)
    assert tensor.array.shape == (1, 3, 8, 8)
    assert tensor.array.dtype == np.float32
    np.testing.assert_array_equal(tensor.array[0], expected.transpose(2, 0, 1))


def test_a_crop_is_cut_out_of_the_middle_of_the_scaled_picture() -> None:
    tensor = reader(fit="crop", shorter_side=10, resample="bicubic", scale=1.0).read(jpeg(40, 61))
    scaled = opened(jpeg(40, 61)).resize((15, 10), Image.Resampling.BICUBIC)
    expected = np.asarray(scaled)[1:9, 4:12].astype(np.float32)
    np.testing.assert_array_equal(tensor.array[0], expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("axes", "image", "axes_of_pixels"),
    [
        ((None, 3, 8, 8), {}, (2, 0, 1)),
        ((None, 8, 8, 3), {}, (0, 1, 2)),
        ((None, None, None, 3), {"size": [8, 8]}, (0, 1, 2)),
        ((None, 3, None, None), {"size": [8, 8], "layout": "NCHW"}, (2, 0, 1)),
        ((1, 3, 8, 8), {}, (2, 0, 1)),
    ],
)
def test_layouts(axes: Axes, image: dict[str, Any], axes_of_pixels: tuple[int, ...]) -> None:
    tensor = reader(signature_of(axes, Datatype.UINT8), **image).read(png())
    np.testing.assert_array_equal(tensor.array, noise(8, 8).transpose(axes_of_pixels)[None])
    assert tensor.array.flags.c_contiguous


def test_a_model_without_rows_gets_the_picture_alone() -> None:
    tensor = reader(signature_of((8, 8, 3), Datatype.UINT8, batched=False)).read(png())
    np.testing.assert_array_equal(tensor.array, noise(8, 8))


def test_bgr_and_brightness() -> None:
    assert np.array_equal(
        reader(signature_of((None, 8, 8, 3), Datatype.UINT8), color="BGR").read(png()).array[0], noise(8, 8)[..., ::-1]
    )
    grey = reader(signature_of((None, 8, 8), Datatype.UINT8)).read(png(channels=1))
    assert np.array_equal(grey.array[0], noise(8, 8, 1))
    one = reader(signature_of((None, 1, 8, 8), Datatype.FP16), scale=1.0).read(png())
    assert np.array_equal(one.array[0, 0], np.asarray(opened(png()).convert("L")).astype(np.float16))


def _cmyk() -> tuple[bytes, Array]:
    picture = Image.fromarray(noise(8, 8)).convert("CMYK")
    file = written(picture, "JPEG")
    return file, np.asarray(opened(file))


def _palette() -> tuple[bytes, Array]:
    picture = Image.fromarray(noise(8, 8)).quantize(16)
    file = written(picture, transparency=b"\x00\x80")
    return file, np.asarray(picture.convert("RGB"))


def _alpha() -> tuple[bytes, Array]:
    pixels = noise(8, 8, 4)
    return written(Image.fromarray(pixels, "RGBA")), pixels[..., :3]


def _turned() -> tuple[bytes, Array]:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = written(Image.fromarray(noise(8, 8)), exif=exif)
    return file, np.rot90(noise(8, 8), -1)


@pytest.mark.parametrize("make", [_cmyk, _palette, _alpha, _turned])
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_odd_modes(make: Any) -> None:
    file, expected = make()
    tensor = reader(signature_of((None, 8, 8, 3), Datatype.UINT8)).read(file)
    np.testing.assert_array_equal(tensor.array[0], expected)


def _animated() -> bytes:
    frames = [Image.fromarray(noise(8, 8)), Image.new("RGB", (8, 8))]
    return written(frames[0], save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (jpeg()[:700], "cannot be read"),
        (png()[:60], "cannot be read"),
        (b"GIF89a" + bytes(50), "neither JPEG nor PNG"),
        (b"", "neither JPEG nor PNG"),
        (bomb(0, 5), "image"),
        (bomb(5, 5), "cannot be read"),
        (written(Image.fromarray(np.zeros((4, 4), np.uint16))), "8 bits"),
        (_animated(), "animated"),
        (written(Image.fromarray(noise(4, 4)), "GIF"), "neither JPEG nor PNG"),
    ],
)
def test_what_is_no_picture_is_refused(file: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        reader().read(file)


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(RequestTooLarge, match="60000 x 60000 pixels"):
        reader().read(bomb(60_000, 60_000))
    with pytest.raises(RequestTooLarge, match="allows 100"):
        reader(max_pixels=100).read(png(11, 11))


def test_a_long_strip_is_not_scaled_to_what_would_not_fit() -> None:
    with pytest.raises(InvalidRequest, match="once it is scaled"):
        reader(fit="crop", shorter_side=16, max_pixels=20_000).read(png(1, 10_000))


@pytest.mark.parametrize(
    ("axes", "datatype", "image", "words"),
    [
        ((None, 3, 8, 8), Datatype.INT64, {}, "datatype INT64"),
        ((None, 3, 8, 8), Datatype.UINT8, {"scale": 1.0}, "remove them"),
        ((None, 3, None, 8), Datatype.FP32, {}, r"size: the model takes any"),
        ((None, 3, 8, 8), Datatype.FP32, {"size": [8, 9]}, "is not what the model takes"),
        ((None, 3, 8, 3), Datatype.FP32, {}, "does not tell it; expected NCHW or NHWC"),
        ((None, 2, 8, 8), Datatype.FP32, {"layout": "NCHW"}, "2 channels"),
        ((None, 3, 8, 8), Datatype.FP32, {"color": "L"}, "3 channels"),
        ((None, 8), Datatype.FP32, {}, "layout"),
        ((None, 3, 8, 8), Datatype.FP32, {"layout": "NHW"}, "does not go with 4 axes"),
        ((None, 3, 8, 8), Datatype.FP32, {"mean": [1.0, 2.0]}, "one for each of 3"),
        ((None, 3, 8, 8), Datatype.FP32, {"fit": "crop", "shorter_side": 7}, "too short"),
    ],
)
def test_a_declaration_that_does_not_suit_the_model(
    axes: Axes, datatype: Datatype, image: dict[str, Any], words: str
) -> None:
    with pytest.raises(RepositoryError, match=words):
        reader(signature_of(axes, datatype), **image)
