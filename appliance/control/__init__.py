"""The hub's desk: questions that wait for a reviewer, and the HTTP interface over a unix socket."""
