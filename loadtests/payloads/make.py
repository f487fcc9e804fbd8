"""Write the images of digits that no training has seen: run `python -m loadtests.payloads.make`.

They come from the data set that scikit-learn ships, by the split that `examples.digits.train` uses. As a file they save
every load generator scikit-learn, and the second that it takes to load.
"""

from __future__ import annotations

from examples.digits.train import split
from loadtests.models import DIGITS_FILE


def digits() -> str:
    """A JSON list of images, one on a line, each 64 integers from 0 to 16."""
    images = split()[1].pixels.astype(int).tolist()
    lines = ",\n".join(str(image).replace(" ", "") for image in images)
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    DIGITS_FILE.write_text(digits())
    print(f"wrote {DIGITS_FILE}")
