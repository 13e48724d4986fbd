"""The searcher: moves every search forward, stateless between steps. Torch-free."""
