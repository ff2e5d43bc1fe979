# Sourced by the scripts here that install Debian packages. No service is started by any of them.

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

POLICY=/usr/sbin/policy-rc.d
policy_is_ours=no
forget_policy() {
    if [ "$policy_is_ours" = yes ]; then rm -f "$POLICY"; policy_is_ours=no; fi
}

# Debian's maintainer scripts ask policy-rc.d whether a service may start: it says no for as long as we install.
deny_services() {
    [ -e "$POLICY" ] && return 0
    trap forget_policy EXIT
    trap 'exit 130' INT TERM HUP
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

# A package's service would start at the next boot and take the port that the configuration names.
disable_services() {
    has systemctl || return 0
    local package
    for package in "$@"; do
        case "$package" in mosquitto | rabbitmq-server | nats-server)
            systemctl disable "$package.service" >/dev/null 2>&1 || true
            say "$package is installed, and its system service disabled" ;;
        esac
    done
}

install_packages() {
    local -x DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
    deny_services
    "${apt[@]}" update </dev/null || say "apt-get update failed; trying with the package lists that are here"
    "${apt[@]}" install --no-install-recommends "$@" </dev/null || fail "apt-get could not install: $*"
    forget_policy
    disable_services "$@"
}
