"""How its runs are executed."""
