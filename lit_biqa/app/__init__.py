"""The page and the API of `lit_biqa serve`: uploads, batches across clients, answers."""
