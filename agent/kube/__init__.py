"""The Kubernetes API through the node's own `oc` or `kubectl`, within deadlines."""
