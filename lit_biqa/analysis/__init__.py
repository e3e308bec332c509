"""Studies of models that name quality levels: stability, accuracy, logit lens and attention."""
