#!/usr/bin/env bash
# Digits by objective: the table of results.md ("which objective makes digits?") with its pictures, and the evidence of
# the first model by every method (evidence.md, "Digits" and "Schedules").
#   bash docs/reproduce/objectives.sh        RUNS=folder of the trainings, OUT=folder of the evaluation
# Seed 0. Six trainings of 2 to 4 minutes on one core, then about half an hour of evidence.
set -eu
cd "$(dirname "$0")/../.."
: "${PYTHON:=python}" "${RUNS:=runs}" "${OUT:=out}"

digits="-c configs/digits.yaml -c configs/uncorrected.yaml --runs $RUNS"
"$PYTHON" train.py fit $digits
"$PYTHON" train.py fit $digits -c configs/mle.yaml
"$PYTHON" train.py fit $digits -c configs/ti.yaml
"$PYTHON" train.py fit $digits -c configs/ti.yaml -c configs/estimators/detached.yaml
for power in 1 0.1; do
    "$PYTHON" train.py fit $digits -c configs/ti.yaml --model.objective.schedule.power "$power" --name "digits-p$power"
done

# MMD² and shares of digits; samples, annealed and short-run evidence of all held-out digits, paired by image.
"$PYTHON" benchmarks/digits_quality.py "$RUNS"/digits*uncorrected*/0/checkpoints/last.ckpt
"$PYTHON" evaluate.py --checkpoint "$RUNS"/digits*uncorrected* --output "$OUT"

# log p(x) against N with both bounds, and its figure; then the other methods, and the schedules.
first="$RUNS/digits-uncorrected/0/checkpoints/last.ckpt"
"$PYTHON" -m thermoebm.applications.evidence "$first"
"$PYTHON" -m benchmarks.evidence "$first"
