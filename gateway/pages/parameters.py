"""Path parameters that pages have in common."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path

ModelName: TypeAlias = Annotated[str, Path(description="A model's name", examples=["digits"])]
VersionNumber: TypeAlias = Annotated[int, Path(description="A version's number", examples=[1])]
