#!/bin/sh
# Prints "unread" when systemd has not read the unit as it is now, and "outdated" when the running proxy was started
# before its code, settings or unit were written, or runs under another number than the user now has.
# Usage: outdated.sh USER
set -eu

show() { systemctl show sluice.service --value --timestamp=us --property="$1"; }

[ "$(show NeedDaemonReload)" != yes ] || echo unread
pid=$(show MainPID)
[ "$pid" != 0 ] || exit 0
started=$(show ExecMainStartTimestamp)
newer=$(find /usr/local/lib/sluice/current /usr/local/lib/sluice/current/ /etc/sluice/sluice.toml /etc/systemd/system/sluice.service \
             /etc/systemd/system/sluice.service.d -newermt "$started" 2>/dev/null || true)
if [ -n "$newer" ] || [ "$(stat -c %u "/proc/$pid")" != "$(id -u "$1")" ]; then
    echo outdated
fi
