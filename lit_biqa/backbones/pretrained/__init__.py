"""Pretrained weights that ordinary packages carry: found, checked and converted, never imported."""
