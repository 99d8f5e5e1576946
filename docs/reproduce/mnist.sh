#!/usr/bin/env bash
# MNIST by two objectives: the table and pictures of results.md, and log p(x) by every method (evidence.md, "MNIST").
#   bash docs/reproduce/mnist.sh             RUNS=folder of the trainings, OUT=folder of the evaluation
# Seed 0. An hour and half an hour of training on a busy core, then about a quarter of an hour.
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}" "${RUNS:=runs}" "${OUT:=out}"

"$PYTHON" train.py fit -c configs/mnist.yaml --runs "$RUNS" --trainer.max_epochs 20
"$PYTHON" train.py fit -c configs/mnist.yaml -c configs/mle.yaml --runs "$RUNS" --trainer.max_epochs 20
"$PYTHON" evaluate.py --checkpoint "$RUNS/mnist" "$RUNS/mnist-mle" --output "$OUT" --evidence_images 100
"$PYTHON" -m benchmarks.evidence "$RUNS/mnist/0/checkpoints/last.ckpt" --images 20 --steps 300 --no_schedules
