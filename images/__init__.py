"""What is made beforehand and carried to hosts: the runtime, and the debug pod's image."""
