"""Backbones: what turns images and texts into numbers; chosen by configuration."""
