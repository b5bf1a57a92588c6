# Sourced by scripts of the lab (`. lab.sh`): what they say of guests.

# up GUEST: waits until its program starts, two minutes at most.
up() {
    for try in $(seq 1200); do
        grep -q '^guest: starts' "/var/log/xen/console/guest-$1.log" 2>/dev/null && return
        usleep 100000
    done
    return 1
}

# create GUEST [NAME=VALUE..]: a guest of /etc/xen, with these settings in place of its own; returns when its program starts.
create() {
    guest=$1
    shift
    rm -f "/var/log/xen/console/guest-$guest.log"
    xl create -q "/etc/xen/$guest.cfg" "$@" && up "$guest"
}

# paused: the names of the paused domains.
paused() {
    xl list | awk 'NR > 1 && $5 ~ /p/ { print $1 }' | xargs
}

# enough FILE BYTES: waits until it has so many, a minute at most.
enough() {
    for try in $(seq 600); do
        [ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -ge "$2" ] && return
        usleep 100000
    done
    return 1
}

# more FILE: waits until a recording has gone on for some ticks, and names were read again (twice a second).
more() {
    begun=$(stat -c %s "$1")
    sleep 2
    enough "$1" $((begun + 2000))
}

# holder: the processes that pause domains for xprof record --consistent.
holder() {
    for process in /proc/[0-9]*; do
        { read -r name <"$process/comm"; } 2>/dev/null || continue
        [ "$name" != xprof-holder ] || echo "${process#/proc/}"
    done
}
