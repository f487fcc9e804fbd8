"""The protocols that are spoken over HTTP: one line for each."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.dialects.base import Dialect
from gateway.dialects.openai import OpenAI
from gateway.dialects.sagemaker import SageMaker
from gateway.dialects.tfs import TfsExamples, TfsPredict
from gateway.dialects.tfs_examples import CLASSIFY, REGRESS
from gateway.dialects.torchserve import TorchServe
from gateway.dialects.v2 import V2

DIALECTS: Sequence[Dialect] = (
    V2(),
    TfsPredict(),
    TfsExamples(CLASSIFY),
    TfsExamples(REGRESS),
    OpenAI(),
    TorchServe(),
    SageMaker(),
)
"""The first one that recognises a path has it; errors of the pages are in the first one's words."""
