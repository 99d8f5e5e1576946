"""Estimates of the log-evidence."""

from thermoebm.evidence.quadrature import bracket, second_order, stepping_stone, trapezium, trapezium_weights

__all__ = ["bracket", "second_order", "stepping_stone", "trapezium", "trapezium_weights"]
