"""A Kubernetes API of the lab's own, as far as kubectl and a rescue need one.

It runs on plain Python with nothing but its standard library, so that hosts can run it.
"""
