from __future__ import annotations

import pytest

from sluice.gateway.dialects.targets import version_number, version_of
from sluice.inference.errors import VersionNotFound


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("1", 1), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_a_version_is_a_whole_number(text: str, number: int) -> None:
    assert version_number(text) == version_of("m", text) == number


@pytest.mark.parametrize("text", ["", "x", "1.0", "-1", "+1", " 1", "1_0", "٣", "²", "9" * 19, "9" * 10_000])
def test_every_other_text_names_no_version(text: str) -> None:
    assert version_number(text) is None
    with pytest.raises(VersionNotFound, match=r"^model 'm+' has no version .*; versions are whole numbers$") as caught:
        version_of("m" * 1000, text)
    assert len(str(caught.value)) < 250
