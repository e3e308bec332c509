"""Methods: one LightningModule each."""
