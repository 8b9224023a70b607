# PostgreSQL with my_worker, on the official image: after `docker run` jobs run.
#
#     docker build -t my_worker .                                  # --build-arg PG_MAJOR=17 for another server
#     docker run -d --name jobs -e POSTGRES_PASSWORD=secret my_worker
#     docker exec jobs psql -U postgres -c "SELECT my_worker.run('VACUUM (ANALYZE)')"
#
# `make test-docker` runs these steps in root folders where there is no container engine.
ARG PG_MAJOR=15
ARG DEBIAN=bookworm

FROM rust:1-${DEBIAN} AS rust

FROM postgres:${PG_MAJOR}-${DEBIAN} AS build
# The headers in the server's version, or in the one that there is.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && { apt-get install -y --no-install-recommends "postgresql-server-dev-$PG_MAJOR=$(dpkg-query -W -f='${Version}' "postgresql-$PG_MAJOR")" \
    || apt-get install -y --no-install-recommends "postgresql-server-dev-$PG_MAJOR"; }
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src
COPY . .
RUN make PG_CONFIG="/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" \
    && make install DESTDIR=/stage PG_CONFIG="/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" \
    && strip --strip-unneeded "/stage/usr/lib/postgresql/$PG_MAJOR/lib/my_worker.so"

FROM postgres:${PG_MAJOR}-${DEBIAN}
COPY --from=build /stage/ /
# What a new cluster's postgresql.conf is made from: all databases with the extension are served.
RUN printf "%s\n" "shared_preload_libraries = 'my_worker'" "my_worker.database = '*'" "max_worker_processes = 16" \
    >>"/usr/share/postgresql/$PG_MAJOR/postgresql.conf.sample"
# What runs once in a new cluster, in the database POSTGRES_DB.
RUN mkdir -p /docker-entrypoint-initdb.d \
    && echo "CREATE EXTENSION my_worker;" >/docker-entrypoint-initdb.d/10_my_worker.sql
