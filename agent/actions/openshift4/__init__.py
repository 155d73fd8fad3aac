"""What steps do on OpenShift 4: on its API, and in its own layout of backup sets."""
