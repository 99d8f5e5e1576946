"""How good is a trained model? python evaluate.py --checkpoint runs/digits/0/checkpoints/last.ckpt --output out"""

from thermoebm.runtime import signals
from thermoebm.runtime.collection import importing
from thermoebm.runtime.terminal import outliving_readers

if __name__ == "__main__":
    with signals.listening(), outliving_readers():
        with importing():
            from thermoebm.cli.evaluate import main
        main()
