"""What all tests have in common."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast examples are made and tried says something of the machine, and nothing of the product.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
