"""Estimates of the log-evidence log p_θ(x).

They need only the log-likelihoods measured on a temperature ladder, not the model.
"""

from thermoebm.evidence.quadrature import bracket, second_order, stepping_stone, trapezium, trapezium_weights

__all__ = ["bracket", "second_order", "stepping_stone", "trapezium", "trapezium_weights"]
