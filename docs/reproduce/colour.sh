#!/usr/bin/env bash
# CIFAR-10 and CelebA: the table and pictures of results.md, and log p(x) by every method (evidence.md, "CIFAR-10").
#   bash docs/reproduce/colour.sh            RUNS=folder of the trainings, OUT=folder of the evaluations
#   WIDE=1 bash docs/reproduce/colour.sh     the run at full width instead, on a GPU: two minutes
# DATA has cifar10.npz (arrays train and test, uint8 (N, 32, 32, 3)) and celeba_64.zip (train/*.jpg, test/*.jpg).
# Seed 0. Half an hour of training on two cores.
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}" "${RUNS:=runs}" "${OUT:=out}" "${DATA:=data}" "${WIDE:=}"

cifar10="-c configs/cifar10.yaml --runs $RUNS --data thermoebm.data.Arrays --data.root $DATA/cifar10.npz"
celeba="-c configs/celeba.yaml --runs $RUNS --data thermoebm.data.ImageFolder --data.root $DATA/celeba_64.zip"
off="--fidelity.every_n_epochs 0 --gradient_variance.every_n_epochs 0"
lr="--model.generator_optimizer.learning_rate 5e-4"
if [ -n "$WIDE" ]; then
    timeout -s INT 145 "$PYTHON" train.py fit $cifar10 -c configs/mle.yaml $off --trainer.max_epochs 300 ||
        [ $? -eq 124 ]
    exit
fi

"$PYTHON" train.py fit $cifar10 $off $lr --name cifar10-mle --model.generator.features 8 --trainer.max_epochs 6
"$PYTHON" train.py fit $cifar10 -c configs/ti.yaml $off $lr --model.generator.features 4 --trainer.max_epochs 1
"$PYTHON" train.py fit $celeba $off $lr --name celeba-mle --model.generator.features 4 --trainer.max_epochs 5
"$PYTHON" train.py fit $celeba -c configs/ti.yaml -c configs/estimators/endpoints.yaml $off $lr \
    --model.objective.evidence_every 20 --model.generator.features 4 --trainer.max_epochs 1
"$PYTHON" evaluate.py --checkpoint "$RUNS"/cifar10* --output "$OUT" --evidence_images 40
"$PYTHON" evaluate.py --checkpoint "$RUNS"/celeba* --output "$OUT-celeba" --evidence_images 40 --extractor pixels
"$PYTHON" -m benchmarks.evidence "$RUNS/cifar10-mle/0/checkpoints/last.ckpt" --images 8 --steps 300 --no_schedules
"$PYTHON" -m benchmarks.evidence "$RUNS/cifar10-mle/0/checkpoints/last.ckpt" --images 6 --steps 60 --max_steps 500 \
    --no_schedules
