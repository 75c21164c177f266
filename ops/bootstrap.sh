# Sourced by ops/try, ops/test and ops/bench: everything they need, from Debian's packages and the lock, installed once.
# Asks before it acts, so that a second run costs a second; leaves no service running that was not there before.
# The mirrors are the machine's own (apt's and pip's settings); nothing here names one.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

# Each with its reason; the guests' kernel and agent are fetched by the lab itself, unpacked and never installed.
packages=(
  libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients  # a libvirt daemon a host, virsh for people
  qemu-system-x86 qemu-utils                                        # the guests; qemu-img and qemu-nbd
  python3-libnbd python3-venv python3-dev                           # the NBD client is not on PyPI
  libvirt-dev gcc pkg-config                                        # libvirt-python is built from source
  redis-server                                                      # our own, private one is started from this binary
  busybox-static cpio e2fsprogs iproute2 util-linux                 # the lab's guests and its namespaces
  mmdebstrap                                                        # a Debian of another release, to install on
  python3-yaml                                                      # the tests read compose.yaml
)

say() { printf '%s\n' "$*" >&2; }

# Run a command quietly; if it fails, or stands still for a quarter of an hour, say what it said.
logged() {
  local log
  log=$(mktemp)
  timeout 900 "$@" </dev/null >"$log" 2>&1 || { tail -n 30 "$log" >&2; say "Failed: $*. Its whole output is in $log."; exit 1; }
  rm -f "$log"
}

pip_install() { logged "$venv/bin/python" -m pip install --disable-pip-version-check "$@"; }

apt_install() {
  logged apt-get update
  DEBIAN_FRONTEND=noninteractive logged apt-get -y --no-install-recommends install "$@"
}

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  [ "$(id -u)" = 0 ] || { say "Installing ${missing[*]} needs root: run this as root once."; exit 77; }
  say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  apt_install "${missing[@]}"
}

# Whether the mark of that name says that this was installed already; else what to write there afterwards, in $wanted.
installed() {
  wanted=$(cat "${@:2}" <(/usr/bin/python3 -V) | sha256sum)
  [ "$(cat "$venv/$1" 2>/dev/null)" = "$wanted" ]
}

install_python() {
  local wanted
  if ! installed dependencies "$root"/ops/lock/{build,requirements}.txt; then
    say "Installing Python packages into .venv"
    # The distribution's own Python, seeing the distribution's packages, because that is where the nbd module lives.
    rm -rf "$venv"
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    pip_install --require-hashes --ignore-installed -r "$root/ops/lock/build.txt"
    pip_install --require-hashes --ignore-installed --no-build-isolation -r "$root/ops/lock/requirements.txt"
    printf '%s\n' "$wanted" >"$venv/dependencies"
  fi
  if ! installed project "$root/pyproject.toml"; then
    pip_install --no-build-isolation --no-deps -e "$root"
    printf '%s\n' "$wanted" >"$venv/project"
  fi
}

install_packages
install_python
export PATH=$venv/bin:$PATH:/usr/sbin:/sbin  # libvirtd and debugfs are there, and not on every PATH
