"""A scorer of real weights scores photographs in onnxruntime as in torch; skipped without them."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest
import torch
from small_scorers import real_images

from lit_biqa.backbones.timm_sentence import TimmSentence
from lit_biqa.export.onnx_file import OnnxScorer
from lit_biqa.export.writing import export_scorer
from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import PrototypeHead
from lit_biqa.scoring.scorer import load_scorer, write_scorer


def test_lite0_scores_photographs_alike(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.installed("lite0")
    monkeypatch.setenv("LIT_BIQA_CACHE", str(tmp_path / "cache"))
    photos = real_images(shared, 16)
    encoder = TimmSentence("package:lite0", None, [0, 1, 2, 3])
    encoder.load()
    assert encoder.images is not None
    pixels = [encoder.eval_transform(photo)[None] for photo in photos]
    with torch.no_grad():
        statistics = torch.cat([encoder.images.statistics(each) for each in pixels])
        encoder.images.observe(statistics)
        embeddings = encoder.eval().embed_images(statistics)
    head = PrototypeHead(encoder.dim, HeadSettings(8, 12, 6, temperature=0.15, finetune=False))
    head.fit(embeddings, torch.linspace(1, 5, len(photos)))
    path = tmp_path / "scorer.safetensors"
    write_scorer(path, encoder.image_tower.state_dict(), head, encoder.settings())

    scorer, out = load_scorer(path), tmp_path / "scorer.onnx"
    export_scorer(scorer, out, "onnx")
    run = OnnxScorer(out)
    scores = torch.cat([run(each) for each in pixels])
    expected = scorer(photos)
    assert expected.std() > 0.5
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
