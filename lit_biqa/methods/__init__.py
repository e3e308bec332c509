"""Methods: RALI, supervised fine-tuning and GRPO, one LightningModule each."""
