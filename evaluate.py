"""How good is a trained model? python evaluate.py --checkpoint runs/digits/0/checkpoints/last.ckpt --output out"""

from thermoebm.runtime.collection import importing

with importing():
    from thermoebm.cli.evaluate import main

if __name__ == "__main__":
    main()
