#!/usr/bin/env bash
# Speed, memory and precision: the tables of performance.md. Leave the machine alone meanwhile.
#   bash docs/reproduce/performance.sh       RUNS=folder of the training, DATA=folder of MNIST and CelebA
#   GPU=1 bash docs/reproduce/performance.sh the part "On a GPU" instead, OUT=folder of its logs
# `make bench` has chains, a training step, growth, precision and loading, and takes 21 minutes on two cores.
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}" "${RUNS:=runs}" "${DATA:=data}" "${OUT:=out}" "${GPU:=}"

if [ -n "$GPU" ]; then
    DATA="$DATA" OUT="$OUT" bash benchmarks/device.sh tests rates steps ml ti
    exit
fi
"$PYTHON" -m benchmarks
"$PYTHON" -m benchmarks --only training --networks "cifar10 features 16" --precisions float32
"$PYTHON" -m benchmarks.first_step --ways block-1,block-3,block-5,off --caches empty
"$PYTHON" -m benchmarks.step_time
"$PYTHON" -m benchmarks.step_time --networks "" --rates 7.31e14,6.3e14,2.9e12,4.6e-6,2.9e12 \
    --study configs/study/cifar10.yaml configs/study/celeba.yaml
"$PYTHON" train.py fit -c configs/digits.yaml -c configs/uncorrected.yaml --runs "$RUNS"
"$PYTHON" -m benchmarks.precision "$RUNS/digits-uncorrected/0/checkpoints/last.ckpt"
"$PYTHON" benchmarks/extrapolation_cost.py 64 2048
"$PYTHON" benchmarks/data_loading.py --root "$DATA"
