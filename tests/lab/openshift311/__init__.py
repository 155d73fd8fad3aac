"""OpenShift 3.11 in the lab: its layout, its stand-ins, its tests."""
