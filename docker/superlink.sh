#!/bin/sh
# Checked here, because otherwise a results folder that cannot be written is noticed only when a run begins.
if ! [ -w /app/results ]; then
  owner=$(stat -c %u:%g /app/results)
  echo "superlink: the results folder belongs to $owner and user $(id -u) cannot write there;" \
    "give it to you (chown) and put FEDHPRO_USER=<your uid>:<your gid> into docker/.env" >&2
  exit 1
fi
exec flower-superlink "$@"
