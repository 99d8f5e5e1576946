#!/usr/bin/env bash
# Long trainings: the tables and the figure of stability.md.
#   bash docs/reproduce/stability.sh         RUNS and STUDIES=folders of what it writes
# Seeds 0, 1, 2. A run of 600 epochs of digits takes ten minutes on one core, and there are thirty; 20 epochs of MNIST
# take an hour, or minutes on a GPU.
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}" "${RUNS:=runs}" "${STUDIES:=studies}"

"$PYTHON" -m thermoebm.study run configs/study/stability.yaml --output "$STUDIES/stability"
"$PYTHON" -m benchmarks.stability "$STUDIES/stability" --figure docs/images/stability.png --evidence_images 100
"$PYTHON" -m thermoebm.study run configs/study/prior.yaml --output "$STUDIES/prior"
"$PYTHON" -m benchmarks.stability "$STUDIES/prior"
"$PYTHON" -m benchmarks.prior_step

mnist="-c configs/mnist.yaml --runs $RUNS --gradient_variance.every_n_epochs 0"
for seed in 0 1 2; do
    "$PYTHON" train.py fit $mnist --trainer.max_epochs 20 --seed_everything "$seed"
    "$PYTHON" train.py fit $mnist -c configs/corrected.yaml --trainer.max_epochs 20 --seed_everything "$seed"
    "$PYTHON" train.py fit $mnist --name mnist-long --trainer.max_epochs 75 --seed_everything "$seed" \
        --model.energy_optimizer.decay_rate 1 --model.energy_optimizer.final_learning_rate 5e-5 \
        --runaway.on_runaway warn
done
