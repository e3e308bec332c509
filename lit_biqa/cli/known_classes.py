"""Modules whose classes settings may name without a path, as in ``--model RALI``.

The parser knows the subclasses that are imported; none of these modules imports a heavy library
before it is used.
"""

from __future__ import annotations

from lit_biqa.backbones import (  # noqa: F401
    auto_chat,
    clip,
    owl2,
    qwen_vl,
    timm_chat,
    timm_sentence,
    tiny,
    tiny_chat,
)
from lit_biqa.methods import (  # noqa: F401
    grpo,
    metric,
    predictions_file,
    rali,
    scorer_method,
    served,
    sft,
)
