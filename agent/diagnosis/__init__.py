"""Diagnosis: surveys of all hosts in, a verdict out; no effects."""
