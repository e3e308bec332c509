"""How scores are read out of models that speak."""
