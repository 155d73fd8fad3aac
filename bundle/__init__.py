"""The bundle for machines without a network: everything in one archive, signed or not."""
