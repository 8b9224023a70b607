#!/usr/bin/env bash
# What `make deps`, `make demo` and the build say where something is missing: one line that tells what
# to do. PATH is a directory of links to the programs at hand, from which each case takes some away;
# apt-get, sudo and id are stand-ins that only write down how they were called. Prints TAP.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL LIBCLANG_PATH
CARGO=$(command -v "${CARGO:-cargo}")
PG_CONFIG=$(command -v "${PG_CONFIG:-pg_config}")
HERE=$(mktemp -d) || exit 1
trap 'rm -rf "$HERE"' EXIT
COUNT=0
FAILED=0
CHANGED=()

# Links to all programs; a name that is there already goes before.
mkdir "$HERE/bin"
IFS=: read -ra dirs <<<"$PATH:/usr/bin:/bin"
for dir in "${dirs[@]}"; do ln -s "$dir"/* "$HERE/bin/" 2>/dev/null; done

# ok TRUTH NAME: one assertion; with what was printed, if it fails.
ok() {
    COUNT=$((COUNT + 1))
    if [ "$1" = 0 ]; then
        echo "ok $COUNT - $2"
    else
        FAILED=$((FAILED + 1))
        echo "not ok $COUNT - $2"
        sed 's/^/# /' "$HERE/output"
        sed 's/^/# called: /' "$HERE/calls"
    fi
}

# world NAME...: all programs are back but these, and nothing was called yet.
world() {
    local name
    for name in "${CHANGED[@]}"; do
        rm -f "${HERE:?}/bin/$name"
        ln -s "$(command -v "$name")" "$HERE/bin/$name" 2>/dev/null
    done
    CHANGED=()
    fake apt-get
    fake sudo
    fake apt-cache
    for name in "$@"; do
        rm -f "$HERE/bin/$name"
        CHANGED+=("$name")
    done
    : >"$HERE/calls"
}

# fake NAME [LINE...]: a program that writes down its call, then does what the lines say.
fake() {
    local name=$1
    shift
    CHANGED+=("$name")
    rm -f "$HERE/bin/$name"
    printf '%s\n' '#!/bin/sh' "echo $name \"\$*\" >>'$HERE/calls'" "$@" >"$HERE/bin/$name"
    chmod 755 "$HERE/bin/$name"
}

user() { fake id 'echo 1000'; }
root() { fake id 'echo 0'; }
no_compiler() { fake cc 'exit 1'; }

# run COMMAND...: sets STATUS, and LINES to what it said, without make's own lines.
run() {
    PATH=$HERE/bin CARGO=$CARGO PG_CONFIG=$PG_CONFIG "$@" >"$HERE/raw" 2>&1 </dev/null
    STATUS=$?
    grep -v '^make' "$HERE/raw" >"$HERE/output"
}

# says TEXT NAME: it failed, with one line, that has the text.
says() {
    [ "$STATUS" -ne 0 ] && [ "$(wc -l <"$HERE/output")" = 1 ] && grep -qF -- "$1" "$HERE/output"
    ok $? "$2"
}

called() { grep -q -- "$1" "$HERE/calls"; }

world
run scripts/deps
[ "$STATUS" = 0 ] && [ ! -s "$HERE/output" ]
ok $? "deps: nothing lacks, nothing is said"
! called 'apt-get'
ok $? "deps: nor done"

world
root
no_compiler
run scripts/deps
called '^apt-get install .* gcc libc6-dev' && ! called '^sudo'
ok $? "deps: root installs a compiler"

world
user
no_compiler
fake sudo '[ "$1" != -n ] || shift' 'exec "$@"'
run scripts/deps
called '^apt-get install .* gcc libc6-dev' && called '^sudo .*apt-get install'
ok $? "deps: a user does so by sudo"

world
user
no_compiler
fake sudo 'echo "sudo: a password is required" >&2' 'exit 1'
run scripts/deps
says 'as root: apt-get install gcc libc6-dev' "deps: a user whom sudo refuses"
! called '^apt-get'
ok $? "deps: and apt is left alone"

world sudo
user
no_compiler
run scripts/deps
says 'as root: apt-get install gcc libc6-dev' "deps: a user without sudo"

world sudo pg_config
user
run env PG_CONFIG=pg_config scripts/deps
says 'as root: apt-get install postgresql-' "deps: no server, and no sudo"

world apt-get
root
no_compiler
run scripts/deps
says 'this system has no apt; install what these Debian packages stand for: gcc libc6-dev' "deps: a system without apt"

for target in build demo; do
    world sudo
    user
    run make -s "$target" PG_CONFIG=/nowhere/pg_config
    says '/nowhere/pg_config' "make $target: no pg_config"

    fake pg_config "[ \"\$1\" != --includedir-server ] || { echo /nowhere; exit; }" "exec '$PG_CONFIG' \"\$@\""
    run make -s "$target" PG_CONFIG="$HERE/bin/pg_config"
    says '/nowhere/postgres.h' "make $target: no server headers"
done

world sudo
user
run make -s demo CARGO=no_cargo
says 'cargo is missing' "make demo: no cargo"
fake cargo 'echo cargo 1.63.0'
run make -s demo CARGO="$HERE/bin/cargo"
says 'Rust 1.63 is too old' "make demo: an old cargo"

# The README's block of Install that begins with make, as it is written, into a directory of its own.
world
user
fake sudo 'exec "$@"'
awk '/^make$/ { inside = 1 } /^```$/ { inside = 0 } inside' README.md >"$HERE/install"
run env DESTDIR="$HERE/stage" bash -e "$HERE/install"
[ "$STATUS" = 0 ] && find "$HERE/stage" -name my_worker.control | grep -q . && find "$HERE/stage" -name 'my_worker.so' | grep -q .
ok $? "README: make and make install, as written"

# One place after the other is left behind at another version.
world
mkdir "$HERE/tree"
cp -a --parents scripts sql docs debian packaging META.json Cargo.toml Cargo.lock my_worker.control README.md CHANGELOG.md \
    clients/node/package.json clients/python/pyproject.toml web/Cargo.toml "$HERE/tree/" 2>/dev/null
run "$HERE/tree/scripts/release" --versions
[ "$STATUS" = 0 ] && [ ! -s "$HERE/output" ]
ok $? "release: all versions agree"
for place in my_worker.control META.json debian/changelog packaging/my_worker.spec CHANGELOG.md README.md docs/install.md \
    clients/node/package.json clients/python/pyproject.toml web/Cargo.toml; do
    [ -e "$place" ] || continue
    sed -i 's/1\.1/1.7/g' "$HERE/tree/$place"
    run "$HERE/tree/scripts/release" --versions
    [ "$STATUS" != 0 ] && grep -q "^$place" "$HERE/output"
    ok $? "release: $place names another version"
    cp -a "$place" "$HERE/tree/$place"
done

# A copy is made fit for a release; then one thing after the other stands in the way.
if [ -d debian ]; then
    release="$HERE/tree/scripts/release"
    in_copy() { git -C "$HERE/tree" -c user.name=test -c user.email=test@localhost "$@" >/dev/null 2>&1; }
    script=my_worker--$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" my_worker.control).sql
    version=$(sed -n 's/^Version: *//p' packaging/my_worker.spec)
    sed -i 's/^## Unreleased: /## /' "$HERE/tree/CHANGELOG.md"
    sed -i '1s/UNRELEASED/unstable/' "$HERE/tree/debian/changelog"
    sed -i 's/"release_status": "[a-z]*"/"release_status": "stable"/' "$HERE/tree/META.json"
    grep -q " $script$" "$HERE/tree/sql/released.sha256" || (cd "$HERE/tree/sql" && sha256sum "$script" >>released.sha256)
    in_copy init && in_copy add -A && in_copy commit -m 'As released'
    run "$release"
    [ "$STATUS" = 0 ] && grep -q "git tag -a v$version" "$HERE/output"
    ok $? "release: nothing stands in the way"

    # hindered NAME TEXT: that is all that it says, and it is put right again.
    hindered() {
        in_copy commit -a -m "$1"
        run "$release"
        says "$2" "release: $1"
        in_copy reset --hard HEAD~1
    }
    sed -i '0,/^## 1/s//## Unreleased: 1/' "$HERE/tree/CHANGELOG.md"
    hindered 'the changelog calls it unreleased' 'CHANGELOG.md calls'
    sed -i '1s/unstable/UNRELEASED/' "$HERE/tree/debian/changelog"
    hindered "Debian's changelog calls it unreleased" 'debian/changelog calls'
    sed -i 's/"stable"/"testing"/' "$HERE/tree/META.json"
    hindered 'META.json calls it something else' 'META.json calls'
    echo '-- late' >>"$HERE/tree/sql/$script"
    hindered 'the script has changed since its sum was taken' "sql/released.sha256 lacks $script"
    echo >>"$HERE/tree/README.md"
    run "$release"
    says 'there is what is not committed' "release: a tree with changes"
    in_copy reset --hard
    in_copy tag "v$version"
    run "$release"
    says "the tag v$version is there already" "release: a version that was released before"
fi

world
fake mktemp 'exit 1'
run make -s demo
[ "$STATUS" -ne 0 ] && tail -n 1 "$HERE/output" | grep -q '^demo: no directory that .* can use: set TMPDIR$'
ok $? "make demo: no place for its files"

echo "1..$COUNT"
[ "$FAILED" = 0 ]
