"""pytest-drlcompress: is a compressed deep-RL policy still good enough to ship?

Nothing is imported here: the plugin must cost an unrelated pytest run almost nothing.
"""

__version__ = "0.1.0"
