#!/usr/bin/env bash
# docs/images/power-posteriors.webp and .png: a model of digits with two latents, and the picture of one digit of it.
#   bash docs/reproduce/power_posteriors.sh  RUNS=folder of the training, OUT=folder of the pictures
# Seed 0. Minutes on one core. The energy learns twenty times as fast as in configs/digits.yaml, so that its prior has a
# shape; evaluations are left out.
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}" "${RUNS:=runs}" "${OUT:=docs/images}"

"$PYTHON" train.py fit -c configs/digits.yaml -c configs/mle.yaml --name two-latents --runs "$RUNS" --threads 1 \
    --model.energy.latent_dim 2 --model.generator.latent_dim 2 --model.likelihood_sigma 0.4 \
    --model.energy_optimizer.learning_rate 1e-3 --model.energy_optimizer.final_learning_rate 1e-4 \
    --gradient_variance.every_n_epochs 0 --fidelity.every_n_epochs 0
"$PYTHON" docs/reproduce/power_posteriors.py "$RUNS/two-latents-mle/0" --output "$OUT"
