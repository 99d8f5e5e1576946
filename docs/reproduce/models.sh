#!/usr/bin/env bash
# Four models with one generator: the tables and pictures of results.md and models.md.
#   bash docs/reproduce/models.sh            RUNS, OUT and STUDIES=folders of what it writes
# Digits with seeds 0, 1, 2 (twelve runs, less than two hours on two cores); MNIST with seed 0 (minutes a run).
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}" "${RUNS:=runs}" "${OUT:=out}" "${STUDIES:=studies}"

"$PYTHON" -m thermoebm.study run configs/study/models.yaml --output "$STUDIES/models"
"$PYTHON" -m benchmarks.models_table "$STUDIES/models"

# What the triangle has learned, and the strength of its penalty; .02 is the overlay's. The pictures are of seed 0.
triangle="-c configs/digits.yaml -c configs/divergence_triangle.yaml --runs $RUNS --model.generator.latent_dim 10"
for seed in 0 1 2; do
    "$PYTHON" train.py fit $triangle --seed_everything "$seed" --name "digits-seed$seed"
done
for penalty in 0 0.1; do
    "$PYTHON" train.py fit $triangle --model.terms.energy_penalty "$penalty" --name "digits-penalty$penalty"
done
"$PYTHON" -m benchmarks.triangle_quality "$RUNS"/digits-seed* "$RUNS"/digits-penalty*

"$PYTHON" train.py fit -c configs/mnist.yaml -c configs/divergence_triangle.yaml --runs "$RUNS" --trainer.max_epochs 10
"$PYTHON" train.py fit -c configs/mnist.yaml -c configs/vae.yaml --runs "$RUNS" --trainer.max_epochs 10
"$PYTHON" evaluate.py --checkpoint "$RUNS/mnist-triangle" "$RUNS/mnist-vae" --output "$OUT" --evidence_images 100
