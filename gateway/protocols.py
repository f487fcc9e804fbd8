"""The protocols that are spoken over HTTP: one line for each.

What serves their pages is listed in `pages/app.py`: reader processes import this file, and shall not import FastAPI.
"""

from __future__ import annotations

from collections.abc import Sequence

from sluice.gateway.dialects.base import Dialect
from sluice.gateway.dialects.openai.codec import OpenAI
from sluice.gateway.dialects.sagemaker.codec import SageMaker
from sluice.gateway.dialects.tfs.codec import TfsExamples, TfsPredict
from sluice.gateway.dialects.tfs.examples import CLASSIFY, REGRESS
from sluice.gateway.dialects.torchserve.codec import TorchServe
from sluice.gateway.dialects.v2.codec import V2

DIALECTS: Sequence[Dialect] = (
    V2(),
    TfsPredict(),
    TfsExamples(CLASSIFY),
    TfsExamples(REGRESS),
    OpenAI(),
    TorchServe(),
    SageMaker(),
)
"""A path belongs to the first dialect that recognises it. Pages write their errors as the first dialect does."""
