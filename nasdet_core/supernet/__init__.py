"""One-shot supernets: path sampling, warm start, training, BN recalibration, scoring of candidates."""
