"""A stand-in for the kubelet: static pods over crictl, with a real kubelet's timing and habits.

It runs inside the hosts, on the standard library and PyYAML alone.
"""
