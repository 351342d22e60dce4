#!/usr/bin/env bash
# Installs Nsight Systems from the distribution's own archive on Debian or Ubuntu, so that `nsys profile` makes reports.
#
#   sudo scripts/install-nsys-debian.sh
#
# Three steps, each skipped when already done:
#   1. enable the archive component that holds nsight-systems (Debian: contrib and non-free, Ubuntu: multiverse);
#   2. install the package nsight-systems without recommended packages;
#   3. link host-linux-x64 beside the real target-linux-x64 folder. The package puts the importer under /usr/lib and the
#      recorder under /usr/lib/<triplet>; nsys looks for the importer beside its own real folder and, without the link,
#      leaves a .qdstrm file that nothing can read.
# Nothing is recorded: at the end the version of nsys and the place of its importer are printed.
set -euo pipefail

sources_list=${APT_SOURCES_LIST:-/etc/apt/sources.list}
sources_dir=${APT_SOURCES_DIR:-/etc/apt/sources.list.d}
os_release=${OS_RELEASE:-/etc/os-release}

say() { printf 'install-nsys-debian: %s\n' "$*"; }
fail() { printf 'install-nsys-debian: %s\n' "$*" >&2; exit 1; }

# Adds the words in $components to every enabled entry of the distribution's own archive in file $1, in either format.
# Entries of other archives stay as they are: an unknown component there breaks `apt-get update`.
# Exit 0 always; prints the file's new text.
with_components() {
    local file=$1
    case $file in
    *.sources)
        awk -v words="$components" -v archives="$archives" '
            function flush(   i, j, n, w, have, line) {
                for (i = 1; i <= count; i++) {
                    line = lines[i]
                    if (ours && tolower(line) ~ /^components:/) {
                        n = split(words, w, " ")
                        for (j = 1; j <= n; j++) {
                            have = " " line " "
                            gsub(/[ \t]+/, " ", have)
                            if (index(have, " " w[j] " ") == 0) line = line " " w[j]
                        }
                    }
                    print line
                }
                count = 0; ours = 0
            }
            { lines[++count] = $0 }
            tolower($0) ~ /^uris:/ && $0 ~ archives { ours = 1 }
            /^[ \t]*$/ { flush() }
            END { flush() }
        ' "$file"
        ;;
    *)
        awk -v words="$components" -v archives="$archives" '
            /^[ \t]*deb[ \t]/ && $0 ~ archives && / main( |$)/ {
                n = split(words, w, " ")
                for (j = 1; j <= n; j++) if (index($0 " ", " " w[j] " ") == 0) $0 = $0 " " w[j]
            }
            { print }
        ' "$file"
        ;;
    esac
}

enable_components() {
    local file new found=no
    for file in "$sources_list" "$sources_dir"/*.list "$sources_dir"/*.sources; do
        [ -f "$file" ] || continue
        new=$(mktemp)
        with_components "$file" >"$new"
        if grep -Eq "$archives" "$file"; then found=yes; fi
        if ! cmp -s "$file" "$new"; then
            cat "$new" >"$file" # keeps the file's owner and mode
            say "enabled $components in $file"
        fi
        rm -f "$new"
    done
    [ "$found" = yes ] || fail "no entry of the ${ID} archive was found in $sources_list or $sources_dir; add '$components' to your apt sources yourself, then run this again"
}

[ -r "$os_release" ] || fail "$os_release cannot be read; this script serves Debian and Ubuntu only"
# shellcheck source=/dev/null
. "$os_release"
# The archives are told from third parties' by the last part of their address: mirrors end in /debian or /ubuntu too.
case "${ID:-}" in
debian) components="contrib non-free" archives='/debian(-security)?/?([ \t]|$)' ;;
ubuntu) components="multiverse" archives='/ubuntu(-ports)?/?([ \t]|$)' ;;
*) fail "this is ${ID:-an unknown system}, not Debian or Ubuntu; install Nsight Systems from NVIDIA's site and set AISP_NSYS to its nsys" ;;
esac

if [ "${1:-}" = --sources-only ]; then # for the tests: edit the apt sources named by the environment, and stop
    enable_components
    exit 0
fi
[ $# -eq 0 ] || fail "unknown argument '$1'; this script takes none"
[ "$(id -u)" -eq 0 ] || fail "run it as root: sudo $0"

if dpkg-query -W -f='${Status}' nsight-systems 2>/dev/null | grep -q '^install ok installed$'; then
    say "nsight-systems is already installed"
else
    enable_components
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nsight-systems
fi

nsys=$(dpkg -L nsight-systems nsight-systems-target 2>/dev/null | grep -E '/target-linux-[a-z0-9]+/nsys$' | head -n 1)
importer=$(dpkg -L nsight-systems nsight-systems-target 2>/dev/null | grep -E '/host-linux-[a-z0-9]+/QdstrmImporter$' | head -n 1)
[ -n "$nsys" ] || fail "nsight-systems is installed but holds no nsys"
[ -n "$importer" ] || fail "nsight-systems is installed but holds no QdstrmImporter, so it cannot make reports"
host_folder=$(dirname "$(readlink -f "$importer")")
link="$(dirname "$(dirname "$(readlink -f "$nsys")")")/$(basename "$host_folder")"
if [ "$(readlink -f "$link")" = "$host_folder" ] && [ -e "$link/QdstrmImporter" ]; then
    say "$link is already in place"
else
    [ -e "$link" ] && [ ! -L "$link" ] && fail "$link exists and is not a link; move it away, then run this again"
    ln -sfn "$host_folder" "$link"
    say "linked $link -> $host_folder"
fi

say "$(nsys --version)"
say "importer: $link/QdstrmImporter"
