#!/bin/bash
# What a CUDA device must show, in one go and in the order of its worth; each part ends at its limit and loses nothing.
#     OUT=out bash benchmarks/device.sh [PARTS]        TOY=1: toy sizes, on any machine
# PARTS, of: tests rates steps first ml ti side celeba (default: all but celeba). DATA: the folder of cifar10.npz and
# celeba_64.zip, as in docs/results.md.
# Everything is written under $OUT: a log for each part, and the runs without their checkpoints.
set -u
cd "$(dirname "$0")/.."
OUT=$(realpath -m "${OUT:-out}") PYTHON=${PYTHON:-python} DATA=${DATA:-../shared/data} TOY=${TOY:-}
export THERMOEBM_CACHE=${THERMOEBM_CACHE:-$OUT/cache}
mkdir -p "$OUT"

part() {  # name, seconds, command ...
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    timeout -k 5 "$limit" "$@" >"$OUT/$name.log" 2>&1
    echo "$name: status $? after $((SECONDS - began)) s"
}
fit() {  # name, seconds, arguments of fit ...
    local name=$1 limit=$2
    shift 2
    part "$name" "$limit" "$PYTHON" train.py fit "$@" --runs "$OUT/runs" --gradient_variance.every_n_epochs 0 \
        --fidelity.every_n_epochs 0
}

# Full width needs images; toy sizes take the digits.
if [ -n "$TOY" ]; then
    IMAGES="-c configs/digits.yaml" FACES="-c configs/digits.yaml" NETWORKS=digits QUICK=--quick REPEATS=1
else
    IMAGES="-c configs/cifar10.yaml --data thermoebm.data.Arrays --data.root $DATA/cifar10.npz"
    FACES="-c configs/celeba.yaml --data thermoebm.data.ImageFolder --data.root $DATA/celeba_64.zip"
    NETWORKS="cifar10 features 64" QUICK= REPEATS=5
fi
ML="$IMAGES -c configs/mle.yaml" TI="$IMAGES -c configs/ti.yaml"
epochs() { [ -n "$TOY" ] && echo 1 || echo "$1"; }

for name in ${*:-tests rates steps first ml ti side}; do
    case $name in
        tests) part tests 150 "$PYTHON" -m pytest -q -m gpu -p no:benchmark tests/test_gpu.py ;;
        rates) part rates 90 "$PYTHON" -m benchmarks --only prior,posterior --networks "$NETWORKS" $QUICK \
            --precisions bfloat16 --seconds 5 --json "$OUT/rates.json" ;;
        steps) part steps 60 "$PYTHON" -m benchmarks.step_time --networks "$NETWORKS" --repeats $REPEATS ;;
        first) part first 120 "$PYTHON" -m benchmarks.first_step --ways auto -- $TI --trainer.limit_train_batches 5 \
            --trainer.max_epochs 1 --trainer.limit_val_batches 0 ;;
        ml) fit ml 90 $ML --name ml --trainer.max_epochs "$(epochs 10)" ;;
        ti) fit ti 90 $TI --name ti --trainer.max_epochs "$(epochs 2)" ;;
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
done
rm -rf "$OUT"/cache "$OUT"/runs/*/*/checkpoints
