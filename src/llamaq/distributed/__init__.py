"""Work for more than one machine: rows of a table, files of requests, models cut into stages. What needs Ray lies in
``llamaq.distributed.ray``."""
