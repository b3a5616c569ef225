#!/bin/sh
# Prints "unread" when systemd has not read the unit as it is now, and of the running proxy "restart" when its unit was
# written after its start or its user has another number now, or else "reload" when its code or settings were written
# after it last took them. Usage: outdated.sh USER
set -eu

show() { systemctl show sluice.service --value --timestamp=us --property="$1"; }
newer() { find "$@" 2>/dev/null | grep -q .; }

[ "$(show NeedDaemonReload)" != yes ] || echo unread
pid=$(show MainPID)
[ "$pid" != 0 ] || exit 0
units="/etc/systemd/system/sluice.service /etc/systemd/system/sluice.service.d"
loaded=/run/sluice/loaded
# shellcheck disable=SC2086 # two words
if newer $units -newermt "$(show ExecMainStartTimestamp)" || [ "$(stat -c %u "/proc/$pid")" != "$(id -u "$1")" ] || [ ! -e $loaded ]; then
    echo restart
elif newer /usr/local/lib/sluice/current /usr/local/lib/sluice/current/ /etc/sluice/sluice.toml -newer $loaded; then
    echo reload
fi
