# Peers of `make bench`, each got from its registry into the run's own directory when asked for.
