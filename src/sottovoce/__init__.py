"""Private AI for messages, processed where nobody can read them."""

__version__ = "0.1.0"
__all__ = ["__version__"]
