# Sourced by scripts of the lab (`. lab.sh`): what they say of guests. How long something is waited for is a limit for what
# hangs, ten times what a machine needs that is five times slower than one with nothing else to do.

# up GUEST: waits until its program starts, ten minutes at most. hvm and narrow guests say nothing, and are the program.
up() {
    case $1 in hvm* | narrow*) return 0 ;; esac
    for try in $(seq 6000); do
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

# devices GUEST: creates it with a disk and a network, which it reads all the time; returns when both are connected.
devices() {
    for module in brd xen-blkback xen-netback; do insmod /lab/devices/$module.ko; done
    mkdir -p /etc/xen/scripts
    for script in block vif-bridge; do ln -sf /lab/bin/hotplug /etc/xen/scripts/$script; done
    create "$1" 'extra="console=hvc0 quiet panic=-1 program=devices"' 'disk=["phy:/dev/ram0,xvda,r"]' 'vif=["mac=00:16:3e:00:00:01"]' || return
    # XenbusStateConnected of xen/include/public/io/xenbus.h.
    for device in vbd/$(xl domid "$1")/51712 vif/$(xl domid "$1")/0; do
        until [ "$(xenstore-read "/local/domain/0/backend/$device/state")" = 4 ]; do usleep 100000; done
    done
    until nc 10.0.0.2 9 </dev/null 2>/dev/null; do usleep 100000; done
}

# paused: the names of the paused domains.
paused() {
    xl list | awk 'NR > 1 && $5 ~ /p/ { print $1 }' | xargs
}

# look: dom0's clock (s) and how long every domain ran by Xen's own (NAME ns), read between two reads of the first.
look() {
    cut -d' ' -f1 /proc/uptime
    ${xprof:-xprof} domains --format csv | awk -F, 'NR > 1 { print $2, $11 }'
    cut -d' ' -f1 /proc/uptime
}

# ran NAME: ns that it ran from the look in the file `before` to the one in `after`.
ran() {
    awk -v name="$1" '$1 == name { if (FILENAME == "before") from = $2; else to = $2 } END { printf "%.0f", to - from }' before after
}

# fits NAME RECORDED JSON: `yes` when a recording, made between the looks in `before` and `after`, has the time of this domain of
# one vCPU. What it has is no more than Xen counted around it, and what is missing went by before its first tick or after its
# last: that is no longer than the time by which the looks are further apart than those ticks (`wall_ns`). A clock is read at some
# time of a look, which is allowed for at both ends (`look_ns_max`), and /proc/uptime has hundredths.
fits() {
    wall=$(grep -o '"wall_ns":[0-9]*' "$3" | head -1 | cut -d: -f2)
    wide=$(grep -o '"look_ns_max":[0-9]*' "$3" | cut -d: -f2 | sort -n | tail -1)
    from=$(head -1 before) to=$(tail -1 after)
    awk -v used="$(ran "$1")" -v has="$2" -v wall="$wall" -v wide="$wide" -v from="$from" -v to="$to" 'BEGIN {
        missing = used - has
        most = (to - from + 0.01) * 1e9 - wall + 2 * wide
        print (wall > 0 && has > 0 && missing >= 0 && missing <= most) ? "yes" : has " of " used " ns, may miss " most
    }'
}

# enough FILE BYTES: waits until it has so many, ten minutes at most.
enough() {
    for try in $(seq 6000); do
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
