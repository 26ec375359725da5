"""Measuring Planter's speed against the floor that JetStream sets (``make bench``)."""
