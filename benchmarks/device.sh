#!/bin/bash
# What a CUDA device must show, in the order of its worth; each part ends at its limit and keeps what it wrote.
#     OUT=out DATA=data bash benchmarks/device.sh [PARTS]      TOY=1: toy sizes, on any machine
# PARTS, of: tests rates steps first ml ti side celeba; default: the first six, ten minutes at most. DATA: the folder of
# cifar10.npz and celeba_64.zip, as in docs/results.md. $OUT/device.tar has all logs, tables and pictures.
set -u
cd "$(dirname "$0")/.."
OUT=$(realpath -m "${OUT:-out}") PYTHON=${PYTHON:-python} DATA=${DATA:-data} TOY=${TOY:-}
export PYTHONUNBUFFERED=1
WORK=$(mktemp -d)
export THERMOEBM_CACHE=$WORK/cache
mkdir -p "$OUT" "$WORK/out"

part() {  # name, seconds, command ...
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    timeout -s INT -k 5 "$limit" "$@" >"$WORK/out/$name.log" 2>&1
    echo "$name: status $? after $((SECONDS - began)) s"
}
UNMEASURED="--gradient_variance.every_n_epochs 0 --fidelity.every_n_epochs 0"
fit() {  # name, seconds, arguments of fit ...
    local name=$1 limit=$2
    shift 2
    part "$name" "$limit" "$PYTHON" train.py fit "$@" $UNMEASURED --runs "$WORK/out/runs"
}

if [ -n "$TOY" ]; then
    IMAGES="-c configs/digits.yaml" FACES=$IMAGES NETWORKS=digits QUICK=--quick REPEATS=1
else
    IMAGES="-c configs/cifar10.yaml --data thermoebm.data.Arrays --data.root $DATA/cifar10.npz"
    FACES="-c configs/celeba.yaml --data thermoebm.data.ImageFolder --data.root $DATA/celeba_64.zip"
    NETWORKS="cifar10 features 64" QUICK="" REPEATS=5
fi
ML="$IMAGES -c configs/mle.yaml" TI="$IMAGES -c configs/ti.yaml"
epochs() { if [ -n "$TOY" ]; then echo 1; else echo "$1"; fi; }

for name in ${*:-tests rates steps first ml ti}; do
    case $name in
        tests) part tests 150 "$PYTHON" -m pytest -v -m gpu -p no:benchmark tests/test_gpu.py ;;
        rates) part rates 140 "$PYTHON" -m benchmarks --only prior,posterior --networks "$NETWORKS" $QUICK \
            --precisions bfloat16 --seconds 5 --json "$WORK/out/rates.json" ;;
        steps) part steps 60 "$PYTHON" -m benchmarks.step_time --networks "$NETWORKS" --repeats $REPEATS ;;
        first) part first 90 "$PYTHON" -m benchmarks.first_step --ways auto -- $TI $UNMEASURED \
            --trainer.limit_train_batches 5 --trainer.max_epochs 1 --trainer.limit_val_batches 0 ;;
        ml) fit ml 75 $ML --name ml --trainer.max_epochs "$(epochs 10)" ;;
        ti) fit ti 75 $TI --name ti --trainer.max_epochs "$(epochs 2)" ;;
        side)  # 1, 2 and 3 runs at once
            for count in 1 2 3; do
                for i in $(seq $count); do
                    fit "side-$count-$i" 60 $ML --name "side-$count" --trainer.max_epochs "$(epochs 3)" &
                done
                wait
            done ;;
        celeba) fit celeba 240 $FACES -c configs/mle.yaml --name celeba --trainer.max_epochs "$(epochs 10)" ;;
        *) echo "there is no part $name" >&2 ;;
    esac
    tar -cf "$OUT/device.tar" -C "$WORK/out" --exclude checkpoints .  # after each part: a later one may be cut off
done
rm -rf "$WORK"
