#!/bin/sh
# Written by the Ansible role sluice.ftp.proxy: asks the FTP proxy of this host; `sluice --help` says what.
export PYTHONPATH=/usr/local/lib/sluice/current PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -sP -m sluice.ctl "$@"
