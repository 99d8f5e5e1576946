"""Many training runs stated in one file: planned, run, collected, tested against the report's claims and drawn."""
