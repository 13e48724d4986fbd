"""nasdet_core: the library behind nasdet.

Search spaces, algorithms, models, data, training and evaluation for detector architecture search. It knows nothing of
the web, queues, databases or environment variables. `search_spaces` and `algorithms` import without torch.
"""

__version__ = "0.1.0"
