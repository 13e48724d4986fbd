"""Dataset formats on disk -> one in-memory form.

`layout` finds out what lies in a folder, one module per format turns its files into `raw` objects as they are
written, `assemble` brings them together with what the pictures themselves say. Needs no torch.
"""
