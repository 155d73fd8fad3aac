"""The agent: what runs on a control-plane host, in a debug pod, or at a console."""

__version__ = "0.1.0"
