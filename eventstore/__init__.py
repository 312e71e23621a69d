"""The core of Quire: an event-sourced store for custom resources."""

__version__ = "0.1.0"
