"""MySQL client/server protocol, as MySQL 5.7 to 9 and MariaDB 10 to 12 speak it (handshake version 10).

Sources: MySQL 8.4 source documentation, "Client/Server Protocol"; MariaDB documentation, "Client/Server Protocol".
Not handled, and refused: TLS (the caller ends it and goes on with the same object), the protocol before 4.1, the
X protocol, replication (COM_BINLOG_DUMP and its like), COM_TABLE_DUMP, COM_MULTI, commands of the server's own
(COM_SLEEP, COM_TIME, COM_DELAYED_INSERT, COM_DAEMON ...) and those not known. What a server offers that is not read
here is taken out of its greeting, which says so in its `text`.

Messages of the client:

    startup           name: user; status: database; text: one line each for `charset=` (name of MySQL, "" if not known
                      here), `collation=` (number), `capabilities=` (words), `plugin=`, and `attribute.KEY=VALUE`. The
                      answer to the password is blanked out in `raw` and put back by `allow`
    tls               the client turns to TLS; after it the login comes, in TLS
    auth              secret; more of the login
    query             text; values: query attributes, their names in `name`, one a line
    prepare           text
    execute           name: number of the statement, "-1" for the one prepared last (MariaDB); values: parameters;
                      cursor: "read-only" if it opens a cursor; status: "unread" if the values cannot be read, or not
                      yet (`again` tells later), "partial" if long data is not kept whole
    bulk-execute      the same; values: of all rows, one row after the other; count: rows
    fetch             name
    long-data         name; cursor: number of the parameter; values: the piece; status: "unread" if its statement is
                      not known: then it does not go up
    close reset       name (COM_STMT_CLOSE, COM_STMT_RESET)
    change-user       as startup
    reset-connection  COM_RESET_CONNECTION
    init-db create-db drop-db   text: database
    field-list        text: table; status: pattern
    set-option        status: "multi-statements-on" or "multi-statements-off"
    kill              name: number of the connection, which it ends
    process-info statistics ping debug refresh shutdown terminate
    replication unknown   refused also when they are allowed; text: name of the command
    copy-data copy-done   content of a file the server asked for (LOAD DATA LOCAL)

A Value of a parameter is in text form, as UTF-8 (`binary` False), or bytes that are no text (`binary` True); its type
is the number of MySQL. A statement over the limit has status "oversize" and no text.

Messages of the server:

    greeting          text: version, and what was taken out of its offer; status: number of the connection
    auth              text: plugin, where one is named
    complete          OK, or the end of rows; status: "OK 3" or "ROWS 3"; text: info
    suspended         a cursor is open, or a fetch has not come to its end
    error             status: SQLSTATE; name: number of the error; text
    describe          columns
    row
    prepared          name: number of the statement; text: what was prepared; values: one for each parameter
    parameters        of a statement; followed by `describe` of its columns
    copy-in           text: name of the file the server wants
    parameter         name, status: a variable that changed, by session tracking; name "schema": the database
    statistics progress
    injected injected-done   as in wire.Wire; the values are of text form. A column of name "character_set_client"
                      tells, in its first row, in which set the client's statements are

The last message of the answer to a request has "ready" among the words in `cursor`; the answer to one that was refused,
and so did not reach the server, has "refused" there if it had to wait its turn, else it is no message at all. Other
words there, of complete and suspended: "more" (another result follows), "transaction", "autocommit",
"no-backslash-escapes", "ansi-quotes" (MariaDB), "dropped" (a database), "read-only", "warnings". What answers a login
or change-user has "login" there.
"""

from appliance.wire import Opening
from appliance.wire.mysql.connection import MySQL

__all__ = ["OPENING", "MySQL", "recognise"]

GREETING, ERROR = 10, 255


def recognise(client: bytes, server: bytes) -> bool | None:
    """Tell from the first bytes of both sides whether this is MySQL; None: too few to tell.

    The server speaks first: a greeting of version 10, or an error (too many connections).
    """
    if client and not server:
        return False
    if len(server) >= 4 and (server[3] or not 3 <= int.from_bytes(server[:3], "little") <= 1024):
        return False
    return None if len(server) < 5 else server[4] in {GREETING, ERROR}


OPENING = Opening(MySQL, recognise)
