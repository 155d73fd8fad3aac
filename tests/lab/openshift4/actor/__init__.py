"""What is at work inside an OpenShift cluster, as far as a rescue needs it: the etcd operator, the
machine controllers and the kubelets' reports, done from the lab's side by looking again and again.
"""

from tests.lab.openshift4.actor.cluster import Actor

__all__ = ["Actor"]
