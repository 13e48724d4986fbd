"""Detection data: readers, checks, splits, manifests, the resident cache, batches and the generated demo set.

Nothing is imported here: `in_memory`, `read`, `splits`, `manifest`, `check` and `pictures` work without
torch, while `cache`, `augment` and `batches` need it.
"""
