"""Makes one row of an input out of a picture: size and layout are the signature's, the rest is in `model.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import numpy as np

from sluice.gateway.inputs.images.pillow import Decoder, load_decoder
from sluice.inference.config.model_config import ImageConfig, ModelConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.types import STORAGE, Array, Datatype, Signature, Tensor, TensorSpec

LAYOUTS: Mapping[int, tuple[str, ...]] = MappingProxyType({4: ("NCHW", "NHWC"), 3: ("NHW", "CHW", "HWC"), 2: ("HW",)})
"""The possible layouts by the number of axes. N: row, C: channel, H: height, W: width."""

DATATYPES = frozenset({Datatype.UINT8, Datatype.FP16, Datatype.FP32, Datatype.FP64})


class ImageReader(msgspec.Struct, frozen=True):
    """Makes one row of an input out of a JPEG or PNG file. Threads may share it. A call may take many milliseconds.

    Pixels from 0 to 255 are multiplied by `scale`, or divided by 255 if that is `None`. Then `mean` is subtracted, and
    the difference is divided by `deviation`, in single precision. UINT8 inputs take pixels unchanged.
    """

    spec: TensorSpec
    layout: str
    decoder: Decoder
    reverse: bool
    scale: float | None
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def read(self, body: bytes | bytearray | memoryview) -> Tensor:
        """The row in a file, in the input's own shape. Raises `InvalidRequest` and `RequestTooLarge`."""
        pixels: Array = self.decoder(body)
        if self.reverse:
            pixels = pixels[:, :, ::-1]
        if self.spec.datatype is not Datatype.UINT8:
            pixels = self._normalised(pixels)
        if "C" not in self.layout:
            pixels = pixels[:, :, 0]
        elif self.layout.endswith("CHW"):
            pixels = pixels.transpose(2, 0, 1)
        row = np.ascontiguousarray(pixels, STORAGE[self.spec.datatype])
        return Tensor(self.spec.name, self.spec.datatype, row[None] if "N" in self.layout else row)

    def _normalised(self, pixels: Array) -> Array:
        # A division, as in the libraries with which models are trained: 1/255 times 255 is not exactly 1.
        numbers: Array = pixels / np.float32(255) if self.scale is None else pixels * np.float32(self.scale)
        if any(self.mean):
            numbers -= np.array(self.mean, np.float32)
        if set(self.deviation) != {1.0}:
            numbers /= np.array(self.deviation, np.float32)
        return numbers


def image_readers(config: ModelConfig, signature: Signature) -> Mapping[str, ImageReader]:
    """The reader of each input that has `[input.NAME.image]`, by name.

    Raises `RepositoryError` if the declaration does not suit the model, and `StartError` without Pillow.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    readers = {}
    for name, declared in config.input.items():
        if name not in specs:
            raise RepositoryError(f"input.{name}: the model has no such input; it has {', '.join(map(repr, specs))}")
        if declared.image is not None:
            readers[name] = _reader(specs[name], declared.image, signature)
    return MappingProxyType(readers)


def _reader(spec: TensorSpec, config: ImageConfig, signature: Signature) -> ImageReader:
    fault = f"input.{spec.name}.image"
    if spec.datatype not in DATATYPES:
        raise RepositoryError(
            f"{fault}: the input has datatype {spec.datatype}; images become {', '.join(sorted(DATATYPES))}"
        )
    if spec.datatype is Datatype.UINT8 and (config.scale is not None or config.mean or config.std):
        raise RepositoryError(
            f"{fault}: the input takes bytes, which scale, mean and std would not leave bytes; remove them"
        )
    layout = _layout(spec, config, fault, batched=signature.batched)
    axes = dict(zip(layout, spec.shape, strict=True))
    channels = axes.get("C", 1) or (1 if config.color == "L" else 3)
    if channels not in (1, 3) or (config.color is not None and (channels == 1) != (config.color == "L")):
        raise RepositoryError(f"{fault}: {channels} channels do not go with the color {config.color or 'RGB or L'!r}")
    height, width = _side(axes["H"], config, 0, fault), _side(axes["W"], config, 1, fault)
    if config.shorter_side is not None and config.shorter_side < max(height, width):
        raise RepositoryError(
            f"{fault}.shorter_side: {config.shorter_side} is too short to crop {height} x {width} from"
        )
    if {len(config.mean), len(config.std)} - {0, 1, channels}:
        raise RepositoryError(f"{fault}: mean and std take one number, or one for each of {channels} channels")
    return ImageReader(
        spec=spec,
        layout=layout,
        decoder=load_decoder(config, height, width, channels),
        reverse=config.color == "BGR",
        scale=config.scale,
        mean=config.mean or (0.0,),
        deviation=config.std or (1.0,),
    )


def _layout(spec: TensorSpec, config: ImageConfig, fault: str, *, batched: bool) -> str:
    """The declared layout, or else the only possible one in which the axis of channels is 1 or 3 long."""
    known = [each for each in LAYOUTS.get(len(spec.shape), ()) if ("N" in each) or not batched]
    if config.layout is not None:
        declared = config.layout if config.layout in known else config.layout.removeprefix("N")
        if declared not in known:
            raise RepositoryError(
                f"{fault}.layout: {config.layout} does not go with {len(spec.shape)} axes; {_those(known)}"
            )
        return declared
    fitting = [each for each in known if "C" in each and spec.shape[each.index("C")] in (1, 3)]
    fitting = fitting or [each for each in known if "C" not in each]
    if len(fitting) != 1:
        raise RepositoryError(f"{fault}.layout: the input's shape does not tell it; {_those(known)}")
    return fitting[0]


def _those(layouts: list[str]) -> str:
    return f"expected {' or '.join(layouts)}" if layouts else "an image has 2 to 4 axes"


def _side(own: int | None, config: ImageConfig, place: int, fault: str) -> int:
    if config.size is None:
        if own is None:
            raise RepositoryError(f"{fault}.size: the model takes any; expected [height, width]")
        return own
    if own not in (None, config.size[place]):
        raise RepositoryError(f"{fault}.size: {list(config.size)} is not what the model takes, which is {own} there")
    return config.size[place]
