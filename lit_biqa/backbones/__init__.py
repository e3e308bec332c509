"""Backbones: image-text encoders and vision-language models, chosen by configuration."""
