"""Protocols: the data sets and lists that a paper trains and tests on, under one name.

``--data.test protocol/reasoning_as_representation`` tests on the sets of that paper's tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lit_biqa.types import InputError, nearest

PREFIX = "protocol/"


@dataclass(frozen=True)
class Protocol:
    """Lists of one paper.

    Attributes:
        source: paper and tables.
        train: data sets that its models are trained on.
        test: data sets that they are tested on.
    """

    source: str
    train: tuple[str, ...]
    test: tuple[str, ...]


# Reasoning as Representation, section 5.1: the sets of Q-Insight, which takes DeQA-Score's lists.
# Those of KonIQ, SPAQ and KADID name the images of Q-Align's lists.
_IN_DOMAIN = ("koniq10k/qalign-512x384", "spaq/qalign", "kadid10k/qalign", "pipal/deqa")
_OUT_OF_DOMAIN = ("livew/all1169", "agiqa3k/all", "csiq/all")

PROTOCOLS: Mapping[str, Protocol] = {
    "pure_textual_reasoning": Protocol(
        "Understanding Pure Textual Reasoning, tables I and II",
        ("koniq10k/paper3015-512x384",),
        (
            *("koniq10k/paper3015-512x384", "spaq/all", "kadid10k/all"),
            *("livew/all1169", "agiqa3k/all", "csiq/all"),
        ),
    ),
    "reasoning_as_representation": Protocol(
        "Reasoning as Representation, tables 2, 4, A.1, A.5 and A.6",
        _IN_DOMAIN[:1],
        (*_IN_DOMAIN, *_OUT_OF_DOMAIN),
    ),
    "reasoning_as_representation_mixed": Protocol(
        "Reasoning as Representation, tables 3, 5, A.2 and A.3",
        _IN_DOMAIN,
        (*_IN_DOMAIN, *_OUT_OF_DOMAIN, "tid2013/all"),
    ),
    "building_reasonable_inference": Protocol(
        "Building Reasonable Inference, table 2; it does not say which images it takes of a set",
        ("conversations",),
        ("spaq/all", "koniq10k/all", "liver2/all", "csiq/all"),
    ),
}


def expanded(specs: Sequence[str], part: str) -> list[str]:
    """Specs with each protocol replaced by its data sets.

    Example:
        >>> expanded(["protocol/reasoning_as_representation", "tid2013"], "train")
        ['koniq10k/qalign-512x384', 'tid2013']

    Args:
        specs: names of data sets or protocols.
        part: ``train`` or ``test``.

    Raises:
        InputError: if there is no such protocol, or the part is another.
    """
    found: list[str] = []
    for spec in specs:
        if not spec.startswith(PREFIX):
            found.append(spec)
            continue
        name = spec.removeprefix(PREFIX)
        if part not in ("train", "test"):
            raise InputError(f"data.{part}: {spec} is for data.train and data.test alone")
        if name not in PROTOCOLS:
            raise InputError(f"there is no {spec}{nearest(name, PROTOCOLS)}")
        found += getattr(PROTOCOLS[name], part)
    return found
