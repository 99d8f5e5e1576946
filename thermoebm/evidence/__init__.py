"""Estimates of the log-evidence log p_θ(x).

They take what a temperature ladder has measured and know no model.
"""

from thermoebm.evidence.quadrature import bracket, second_order, stepping_stone, trapezium, trapezium_weights

__all__ = ["bracket", "second_order", "stepping_stone", "trapezium", "trapezium_weights"]
