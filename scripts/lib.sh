# What the demo, the tests and the benchmark share: a relocated copy of the server with the module
# installed into it, and throw-away clusters that run from that copy.
#
# Sourced by bash scripts whose current directory is the top of the tree. The life of a script:
#
#     . scripts/lib.sh
#     work_dir                      # $WORK, removed at exit unless KEEP=1
#     reloc_install                 # build, copy the server to $WORK/server, install the module there
#     start_cluster main "my_worker.database = 'postgres'"
#     as_user psql -c 'CREATE EXTENSION my_worker'
#     stop_cluster main             # the rest is stopped at exit anyway
#
# Why a copy: PostgreSQL finds its libraries and scripts relative to its own program file, so a copy
# of the tree with the module beside it is a full installation that needs no root, leaves the
# system's one alone, and keeps two runs (also of different versions) out of each other's way.
#
# Why as_user: the server refuses to run as root. Root becomes `postgres` (or `nobody`) for
# everything that touches a cluster; anybody else stays what he is.
#
# Nothing listens on TCP: each cluster has a socket directory of its own, so ports cannot collide.

PG_CONFIG=${PG_CONFIG:-pg_config}
MAKE=${MAKE:-make}

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# The caller's PGHOST, PGOPTIONS and the like must not reach a throw-away server; nor may the flags
# of the make that called us reach the make that we call.
for _v in ${!PG*}; do
    case $_v in PG_CONFIG | PG_TEST_*) ;; *) unset "$_v" ;; esac
done
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR _v
export PG_CONFIG LC_ALL=C.UTF-8 LANG=C.UTF-8

# ---- who runs the server ------------------------------------------------------------------------

SERVER_USER=
if [ "$(id -u)" -eq 0 ]; then
    SERVER_USER=nobody
    id postgres >/dev/null 2>&1 && SERVER_USER=postgres
fi

# as_user COMMAND ARG...: runs it as the unprivileged user, with the relocated programs first on
# PATH and no home of anybody's. Keeps the environment otherwise.
as_user() {
    local env=(env "HOME=$WORK/tmp" "TMPDIR=$WORK/tmp" "PATH=${BIN:+$BIN:}$PATH")
    [ -z "${EXTRA_LIBS:-}" ] || env+=("LD_LIBRARY_PATH=$EXTRA_LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
    if [ -z "$SERVER_USER" ]; then
        "${env[@]}" "$@"
    elif command -v setpriv >/dev/null; then
        setpriv --reuid "$SERVER_USER" --regid "$(id -g "$SERVER_USER")" --init-groups "${env[@]}" "$@"
    else
        runuser -u "$SERVER_USER" -- "${env[@]}" "$@"
    fi
}

# user_dir DIR...: makes directories that the unprivileged user owns.
user_dir() {
    mkdir -p "$@" || return
    [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$@"
}

# ---- the working directory ----------------------------------------------------------------------

# work_dir: sets $WORK to a new directory that the unprivileged user can use, and arranges for it
# to go at exit. Below TMPDIR unless that is closed to the user, or too long: a socket's path is
# limited to about 100 bytes.
work_dir() {
    local base
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for base in "${TMPDIR:-/tmp}" /tmp; do
        [ ${#base} -le 40 ] || continue
        WORK=$(mktemp -d "$base/my_worker.XXXXXX" 2>/dev/null) || continue
        chmod 755 "$WORK"
        user_dir "$WORK/tmp"
        if as_user test -w "$WORK/tmp"; then return; fi
        rm -rf "$WORK"
    done
    WORK=
    die "no directory that ${SERVER_USER:-you} can use: set TMPDIR"
}

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    [ -n "${WORK:-}" ] || exit "$status"
    if declare -F stop_tasks >/dev/null; then stop_tasks; fi
    kill_clusters
    if [ -n "${KEEP:-}" ]; then
        say "kept: $WORK"
    else
        rm -rf "$WORK"
    fi
    exit "$status"
}

# Ends every postmaster whose data directory lies in $WORK: what a test left behind, or what an
# interrupted run did not get to stop.
kill_clusters() {
    local file pid pids=()
    while IFS= read -r file; do
        pid=$(head -n 1 "$file" 2>/dev/null)
        runs_in_work "$pid" || continue
        kill -QUIT "$pid" && pids+=("$pid")
    done < <(find "$WORK" -name postmaster.pid 2>/dev/null)
    for pid in ${pids[@]+"${pids[@]}"}; do
        wait_until 20 not_running "$pid" || kill -KILL "$pid"
    done
}

# A pid file may be older than the process that has its number now: only a process whose current
# directory lies in $WORK is one of ours.
runs_in_work() {
    [ -n "$1" ] || return 1
    if [ -e "/proc/$1/cwd" ]; then
        case $(readlink "/proc/$1/cwd") in "$WORK"/*) return 0 ;; *) return 1 ;; esac
    fi
    case $(ps -o args= -p "$1" 2>/dev/null) in *"$WORK"*) return 0 ;; *) return 1 ;; esac
}

not_running() { ! kill -0 "$1" 2>/dev/null; }

# wait_until SECONDS COMMAND ARG...: polls until the command succeeds; fails at the deadline.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# ---- the relocated server -----------------------------------------------------------------------

# reloc_install: builds the module, copies the server that PG_CONFIG names to $WORK/server and
# installs the module into the copy. Sets BIN (the copy's programs) and PGXS_ROOT (its test
# programs). Two runs in one tree take turns here and are independent of the tree afterwards.
reloc_install() {
    local reloc=$WORK/server
    ask_pg_config || return
    copy_server "$reloc" || return
    BIN=$reloc$(pg_config_dir bindir)
    PGXS_ROOT=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/../.." && pwd)
    [ ! -d "$reloc$PGXS_ROOT" ] || PGXS_ROOT=$reloc$PGXS_ROOT
    mkdir -p target
    (
        if command -v flock >/dev/null; then flock 9; fi
        $MAKE -s build && $MAKE -s install DESTDIR="$reloc" >/dev/null
    ) 9>target/.lock || return
    chmod -R a+rX "$reloc"
    EXTRA_LIBS=
    carry_libraries
}

# reloc_newer PG_CONFIG: likewise a copy of a server of another major version, with the module built for it. Sets
# NEWER_INSTALL, the directory above its programs.
reloc_newer() {
    local newer=$WORK/newer
    PG_CONFIG=$1 ask_pg_config && PG_CONFIG=$1 copy_server "$newer" || return
    (
        if command -v flock >/dev/null; then flock 9; fi
        $MAKE -s build PG_CONFIG="$1" && $MAKE -s install PG_CONFIG="$1" DESTDIR="$newer" >/dev/null
    ) 9>target/.lock || return
    chmod -R a+rX "$newer"
    PG_CONFIG=$1 carry_libraries
    NEWER_INSTALL=$newer$(dirname "$("$1" --bindir)")
    export NEWER_INSTALL
}

# reloc_faults: beside the copy of the server another one of hard links, whose module was built with the
# feature `faults` (src/pg/fault.rs). Sets FAULTS_INSTALL, the directory above its programs, and SERVER_LIB, where the other
# server has its modules.
reloc_faults() {
    local faults=$WORK/faults module
    module=$(pg_config_dir pkglibdir)/my_worker.so
    (
        if command -v flock >/dev/null; then flock 9; fi
        $MAKE -s faults && cp "$($MAKE -s --no-print-directory where-faults)" "$WORK/faults.so"
    ) 9>target/.lock || return
    cp -al "$WORK/server" "$faults" && rm "$faults$module" && mv "$WORK/faults.so" "$faults$module" || return
    chmod 755 "$faults$module"
    FAULTS_INSTALL=$faults$(dirname "$(pg_config_dir bindir)")
    SERVER_LIB=$(dirname "$WORK/server$module")
    export FAULTS_INSTALL SERVER_LIB
}

ask_pg_config() {
    "$PG_CONFIG" --version >/dev/null 2>&1 || {
        say "pg_config does not run ($PG_CONFIG); \"make deps\" installs what is needed"
        return 1
    }
    [ -x "$(pg_config_dir bindir)/initdb" ] || {
        say "there is no server beside $PG_CONFIG, only client files; \"make deps\" installs what is needed"
        return 1
    }
}

pg_config_dir() { "$PG_CONFIG" "--$1"; }

# The server's own files only: its programs may live in /usr/bin among others.
copy_server() {
    local bindir program
    bindir=$(pg_config_dir bindir)
    mkdir -p "$1$bindir"
    for program in postgres initdb psql createdb dropdb createuser dropuser vacuumdb reindexdb \
        clusterdb pgbench; do
        [ ! -e "$bindir/$program" ] || cp -pL "$bindir/$program" "$1$bindir/" || return
    done
    cp -pL "$bindir"/pg_* "$1$bindir/" || return
    for dir in "$(pg_config_dir pkglibdir)" "$(pg_config_dir sharedir)"; do
        mkdir -p "$1$dir" && cp -a "$dir/." "$1$dir/" || return
    done
}

# Programs that find libraries by a path relative to themselves lose them in the copy, and a private
# directory may be closed to the unprivileged user: carry all that are not the system's.
carry_libraries() {
    local file
    command -v ldd >/dev/null || return 0
    for file in $(ldd "$(pg_config_dir bindir)"/* 2>/dev/null |
        awk '$2 == "=>" && $3 ~ /^\// && $3 !~ /^(\/usr)?\/lib/ {print $3}' | sort -u); do
        EXTRA_LIBS=$WORK/server/extra-libs
        mkdir -p "$EXTRA_LIBS" && cp -L "$file" "$EXTRA_LIBS/" || return
    done
    [ -z "$EXTRA_LIBS" ] || chmod -R a+rX "$EXTRA_LIBS"
}

# ---- throw-away clusters ------------------------------------------------------------------------

# start_cluster NAME [SETTING LINE]...: a new cluster in $WORK/NAME with the module preloaded and
# the given lines of postgresql.conf. Points PGHOST, PGUSER (a superuser `postgres`) and PGDATABASE
# at it. Its log is $WORK/NAME/log. Durable (fsync on) unless a line says otherwise.
start_cluster() {
    local dir=$WORK/$1
    shift
    user_dir "$dir" "$dir/s" || return
    chmod 700 "$dir/s"
    as_user initdb -D "$dir/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$dir.initdb" 2>&1 || {
        cat "$dir.initdb" >&2
        return 1
    }
    {
        printf "shared_preload_libraries = 'my_worker'\nlisten_addresses = ''\n"
        printf "unix_socket_directories = '%s'\n" "$dir/s"
        [ $# -eq 0 ] || printf '%s\n' "$@"
    } >>"$dir/data/postgresql.conf"
    export PGHOST=$dir/s PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
    as_user pg_ctl -s -w -t 60 -D "$dir/data" -l "$dir/log" start || {
        cat "$dir/log" >&2
        return 1
    }
}

# stop_cluster NAME [MODE]: fast unless told otherwise.
stop_cluster() {
    as_user pg_ctl -s -w -t 60 -D "$WORK/$1/data" -m "${2:-fast}" stop
}

# restart_cluster NAME: after a change of settings that need it.
restart_cluster() {
    as_user pg_ctl -s -w -t 60 -D "$WORK/$1/data" -l "$WORK/$1/log" -m fast restart
}

# free_port: prints a TCP port that nobody listens on, for the rare case that needs TCP.
free_port() {
    perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(
        Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 0)->sockport, "\n"'
}

# ---- the torture ----------------------------------------------------------------------------------

# in_a_box DIR COMMAND ARG...: as the unprivileged user. For root, with processes and mounts of its own, which all end
# with the command, however that ends; then a small disk is mounted on DIR/small, and `--small DIR/small` added to the arguments.
in_a_box() {
    local dir=$1
    shift
    export PYTHONDONTWRITEBYTECODE=1
    if [ "$(id -u)" -ne 0 ] || ! unshare --mount --pid --fork true 2>/dev/null; then
        as_user "$@"
        return
    fi
    mkdir -p "$dir/small"
    export WORK BIN EXTRA_LIBS
    # The first shell stays: as process 1 it takes in the children of those that have died.
    # shellcheck disable=SC2016 # the inner shell knows $1 and the like
    unshare --mount --pid --fork --kill-child --mount-proc bash -c '
        . scripts/lib.sh
        dir=$1
        shift
        mount -t tmpfs -o "size=400m,mode=700,uid=$(id -u "$SERVER_USER")" tmpfs "$dir/small" || exit 1
        as_user "$@" --small "$dir/small"
        exit $?' bash "$dir" "$@"
}
